//! Every way a packet's journey through a responder can end.

macro_rules! verdicts {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// Why a packet was answered, or why it goes up untouched. Each variant is also a counter.
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Verdict { $($(#[$doc])* $name,)* }

        impl Verdict {
            /// All verdicts, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The name in metrics and in `mesos-xdns status`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

verdicts! {
    /// Answered with records.
    Answered = "answered",
    /// Answered: the name exists, the type does not (RFC 2308, section 2.2).
    NoData = "nodata",
    /// Answered: the name does not exist (RFC 2308, section 2.1).
    NxDomain = "nxdomain",
    /// Answered with TC=1, as the records do not fit.
    Truncated = "truncated",
    /// Answered with BADVERS: an EDNS version that is not known (RFC 6891, section 6.1.3).
    BadVersion = "badvers",
    /// Answered with TC=1 and no records, as the prefix of the client has had its share.
    Slipped = "slipped",
    /// Up: no IPv4 or IPv6, or more than two VLAN tags.
    NotIp = "not_ip",
    /// Up: the frame came in on an interface that is not answered on, or not for its address.
    OtherHost = "other_host",
    /// Up: IPv4 options, a fragment, or an IPv6 extension header.
    IpOptions = "ip_options",
    /// Up: no UDP, or another port.
    NotDns = "not_dns",
    /// Up: lengths that contradict each other.
    Length = "length",
    /// Up: an address that is not ours to answer.
    NotLocal = "not_local",
    /// Up: a source that must not be answered (RFC 1122, section 3.2.1.3; reserved ports).
    Source = "source",
    /// Up: a client that is not among those allowed.
    Prohibited = "prohibited",
    /// Up: a checksum that is wrong.
    Checksum = "checksum",
    /// Up: the lease of the control plane has run out, or it has not spoken yet.
    Lease = "lease",
    /// Up: a response, or an opcode other than QUERY.
    NotQuery = "not_query",
    /// Up: not exactly one question and at most one additional record.
    Counts = "counts",
    /// Up: a question that cannot be read.
    Malformed = "malformed",
    /// Up: a class other than IN.
    Class = "class",
    /// Up: an additional record other than OPT, or options that overrun.
    Edns = "edns",
    /// Up: an EDNS option that user space is told to answer.
    Option = "option",
    /// Up: a question for a type that is not data, or that belongs to the parent zone.
    MetaType = "meta_type",
    /// Up: no answer is known for the name.
    Miss = "miss",
    /// Up: another name has the same hash.
    Collision = "collision",
    /// Up: the answer does not fit.
    TooBig = "too_big",
    /// Up: the packet cannot be grown.
    Resize = "resize",
    /// Dropped: the prefix of the client has had its share.
    Limited = "limited",
    /// Lost: a bound that cannot be reached was reached after the first write.
    Broken = "broken",
}

impl Verdict {
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();
    /// How many are responses: the first.
    pub const RESPONSES: usize = Self::Slipped as usize + 1;

    /// The verdict of a response from its number.
    #[inline(always)]
    #[must_use]
    pub const fn of_response(number: u32) -> Self {
        match number {
            0 => Self::Answered,
            1 => Self::NoData,
            2 => Self::NxDomain,
            3 => Self::Truncated,
            4 => Self::BadVersion,
            _ => Self::Slipped,
        }
    }

    /// Whether the packet has become a response.
    #[inline(always)]
    #[must_use]
    pub const fn is_response(self) -> bool {
        (self as usize) < Self::RESPONSES
    }

    /// Whether nothing comes of the packet.
    #[inline(always)]
    #[must_use]
    pub const fn is_lost(self) -> bool {
        matches!(self, Self::Limited | Self::Broken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses_are_numbered_first() {
        for (number, verdict) in Verdict::ALL.iter().enumerate() {
            assert_eq!(*verdict as usize, number);
            let is_response = number < Verdict::RESPONSES;
            assert_eq!(verdict.is_response(), is_response);
            assert_eq!(Verdict::of_response(number as u32) == *verdict, is_response);
        }
        assert_eq!(Verdict::RESPONSES, 6);
    }
}
