//! Ethernet, VLAN tags, IPv4, IPv6 and UDP: read on the way in, turned round on the way out.

use dns_common::encloser::{self, Ancestor};
use dns_common::policy::{MAX_ADDRESSES, flags};
use dns_common::question::Edns;
use dns_common::sum::halves;
use dns_common::{Allowance, Message, Policy, Sums, Table, Verdict, write};

use crate::checksum;
use crate::clients::{self, Source};
use crate::maps::{self, Answers, Blur};
use crate::packet::{self, Context, Packet};

const ETHERNET_OCTETS: u32 = 14;
const IPV4_OCTETS: u32 = 20;
const IPV6_OCTETS: u32 = 40;
const UDP_OCTETS: u32 = 8;
/// Where a UDP header has its checksum.
const CHECKSUM_AT: u32 = 6;
const UDP: u64 = 17;
/// A source port below belongs to a server; answering one could start a loop between servers.
const FIRST_CLIENT_PORT: u16 = 1024;
/// No query that the responder understands is longer.
const MAX_QUERY_OCTETS: u32 = 1232;
/// Words of two VLAN tags, the longest headers and the longest question.
const MAX_KEPT_WORDS: u32 = (ETHERNET_OCTETS + 8 + IPV6_OCTETS + UDP_OCTETS + 12 + 255 + 4) / 8 + 1;
const MAC_MASK: u64 = 0xffff_ffff_ffff;
/// Set in the first eight octets of a frame that comes from an address of a group, which no station has
/// (IEEE 802.3, section 3.2.3): a response would go to the group.
const GROUP_SOURCE: u64 = 1 << 48;
/// Time to live of responses (RFC 1700).
const TTL: u64 = 64;

/// Types of Ethernet frames, as loaded.
pub(crate) mod ethertype {
    pub(crate) const IPV4: u16 = 0x0800u16.swap_bytes();
    pub(crate) const IPV6: u16 = 0x86ddu16.swap_bytes();
    pub(super) const VLAN: u16 = 0x8100u16.swap_bytes();
    pub(super) const QINQ: u16 = 0x88a8u16.swap_bytes();
}

/// A frame that carries a DNS message to one of our addresses.
pub(crate) struct Frame<C: Context> {
    packet: Packet<C>,
    blur: Blur,
    /// Where the IP header starts.
    ip_at: u32,
    ipv6: bool,
    /// Where the UDP header starts.
    udp_at: u32,
    /// Octets of the DNS message.
    octets: u32,
    /// Sum of both addresses and both ports, which swapping does not change.
    endpoints: u64,
    /// UDP checksum as received.
    checksum: u16,
}

impl<C: Context> Frame<C> {
    /// Reads the headers.
    ///
    /// # Errors
    /// The reason why the frame is none of the responder's business.
    #[inline(always)]
    pub(crate) fn read(packet: Packet<C>, policy: &Policy) -> Result<Self, Verdict> {
        let blur = Blur::new(policy);
        let interface = maps::interface(packet.interface()).ok_or(Verdict::OtherHost)?;
        let front = packet.load::<u64>(0).ok_or(Verdict::NotIp)?;
        if interface.mac != 0 && front & MAC_MASK != interface.mac {
            return Err(Verdict::OtherHost);
        }
        if front & GROUP_SOURCE != 0 {
            return Err(Verdict::Source);
        }
        let mut type_at = ETHERNET_OCTETS - 2;
        let mut ethertype = packet.load::<u16>(type_at).ok_or(Verdict::NotIp)?;
        for _ in packet.tags_aside()..2 {
            if ethertype != ethertype::VLAN && ethertype != ethertype::QINQ {
                break;
            }
            type_at += 4;
            ethertype = packet.load::<u16>(type_at).ok_or(Verdict::NotIp)?;
        }
        let ip_at = blur.blur_u32(type_at + 2);
        let (ipv6, ip_octets, headers) = match ethertype {
            ethertype::IPV4 => (false, IPV4_OCTETS, read_ipv4(packet, ip_at, policy)?),
            ethertype::IPV6 => (true, IPV6_OCTETS, read_ipv6(packet, ip_at, policy)?),
            _ => return Err(Verdict::NotIp),
        };
        let Headers {
            udp,
            udp_octets,
            addresses,
        } = headers;
        let udp_at = blur.blur_u32(ip_at.wrapping_add(ip_octets));

        if u32::from(((udp >> 16) as u16).swap_bytes()) != policy.port {
            return Err(Verdict::NotDns);
        }
        if (udp as u16).swap_bytes() < FIRST_CLIENT_PORT {
            return Err(Verdict::Source);
        }
        if u32::from(((udp >> 32) as u16).swap_bytes()) != udp_octets
            || !(UDP_OCTETS..=UDP_OCTETS + MAX_QUERY_OCTETS).contains(&udp_octets)
            || !packet.has(udp_at + udp_octets)
        {
            return Err(Verdict::Length);
        }
        if policy.flags & (flags::RESTRICTED | flags::CLOSED) != 0
            && !clients::allows(packet, policy, ip_at, ipv6)
        {
            return Err(Verdict::Prohibited);
        }
        Ok(Self {
            packet,
            blur,
            ip_at,
            ipv6: blur.blur(u64::from(ipv6)) != 0,
            udp_at,
            octets: udp_octets - UDP_OCTETS,
            endpoints: blur.blur(addresses).wrapping_add(udp & 0xffff_ffff),
            checksum: (udp >> 48) as u16,
        })
    }

    /// A frame that has been read before, and has another length since.
    #[inline(always)]
    fn again(packet: Packet<C>, blur: Blur, place: Place) -> Option<Self> {
        let addresses = if place.ipv6 {
            let [a, b, c, d]: [u64; 4] = packet.load(place.ip_at.wrapping_add(8))?;
            halves(a)
                .wrapping_add(halves(b))
                .wrapping_add(halves(c))
                .wrapping_add(halves(d))
        } else {
            halves(packet.load(place.ip_at.wrapping_add(12))?)
        };
        let ports: u32 = packet.load(place.udp_at)?;
        Some(Self {
            packet,
            blur,
            ip_at: place.ip_at,
            ipv6: blur.blur(u64::from(place.ipv6)) != 0,
            udp_at: place.udp_at,
            octets: 0,
            endpoints: blur.blur(addresses).wrapping_add(u64::from(ports)),
            checksum: blur.blur(u64::from(packet.load::<u16>(place.udp_at.wrapping_add(6))?))
                as u16,
        })
    }

    #[inline(always)]
    fn at(&self, at: u32) -> u32 {
        self.udp_at.wrapping_add(UDP_OCTETS).wrapping_add(at)
    }

    /// Whether the query arrived as it was sent: a right checksum, the bare sum of the pseudo
    /// header (left by a sender on the same host), or none over IPv4 (RFC 768).
    #[inline(always)]
    fn is_intact(&self, query: &Sums) -> bool {
        if self.checksum == 0 {
            return !self.ipv6;
        }
        let udp_octets = self.octets.wrapping_add(UDP_OCTETS);
        let length = u64::from((udp_octets as u16).swap_bytes());
        let message = query
            .header
            .wrapping_add(query.question)
            .wrapping_add(query.records);
        let all = self
            .endpoints
            .wrapping_add(checksum::pseudo_terms(udp_octets))
            .wrapping_add(length)
            .wrapping_add(u64::from(self.checksum))
            .wrapping_add(message);
        checksum::fold(all) == 0xffff || self.pseudo_sum(udp_octets) == Some(self.checksum)
    }

    /// The sum of the pseudo header of a datagram, as a card wants it that makes the checksum.
    #[inline(always)]
    fn pseudo_sum(&self, udp_octets: u32) -> Option<u16> {
        let ports = self.packet.load::<u32>(self.udp_at)?;
        // Less the ports, which are no part of the pseudo header: plus their complement.
        let pseudo = self
            .endpoints
            .wrapping_add(checksum::pseudo_terms(udp_octets))
            .wrapping_add(u64::from(!ports));
        Some(checksum::fold(pseudo))
    }

    /// The UDP checksum of the response.
    #[inline(always)]
    fn response_checksum(&self, response: &Sums) -> Option<u16> {
        if self.checksum == 0 {
            return Some(0);
        }
        if self.packet.is_summed_later(self.udp_at + CHECKSUM_AT) {
            return self.pseudo_sum(self.octets + UDP_OCTETS);
        }
        let length = u64::from(((self.octets + UDP_OCTETS) as u16).swap_bytes());
        let sum = self
            .endpoints
            .wrapping_add(checksum::pseudo_terms(self.octets + UDP_OCTETS))
            .wrapping_add(length)
            .wrapping_add(response.header)
            .wrapping_add(response.question)
            .wrapping_add(response.records);
        Some(checksum::udp(sum))
    }
}

/// What the headers of IP and UDP say.
struct Headers {
    /// The header of UDP.
    udp: u64,
    /// Octets of the UDP datagram, as IP says.
    udp_octets: u32,
    /// The sum of the addresses.
    addresses: u64,
}

/// Reads the headers of IPv4 and UDP.
#[inline(always)]
fn read_ipv4<C: Context>(packet: Packet<C>, at: u32, policy: &Policy) -> Result<Headers, Verdict> {
    let [first, fragment, third, source, destination, ports, rest]: [u32; 7] =
        packet.load(at).ok_or(Verdict::Length)?;
    let header = [first, fragment, third, source, destination];
    // Version 4 and five words; no reserved bit, no more fragments, no fragment offset.
    const FRAGMENT_BITS: u32 = 0xbfffu16.swap_bytes() as u32;
    if first & 0xff != 0x45 || (fragment >> 16) & FRAGMENT_BITS != 0 {
        return Err(Verdict::IpOptions);
    }
    if (third >> 8) & 0xff != UDP as u32 {
        return Err(Verdict::NotDns);
    }
    if checksum::fold(checksum::ipv4_terms(header)) != 0xffff {
        return Err(Verdict::Checksum);
    }
    if !is_answerable_ipv4(source) || source == destination {
        return Err(Verdict::Source);
    }
    if !is_local_ipv4(policy, destination) {
        return Err(Verdict::NotLocal);
    }
    let octets = u32::from(((first >> 16) as u16).swap_bytes());
    Ok(Headers {
        udp: u64::from(ports) | u64::from(rest) << 32,
        udp_octets: octets.checked_sub(IPV4_OCTETS).ok_or(Verdict::Length)?,
        addresses: u64::from(source).wrapping_add(u64::from(destination)),
    })
}

/// Reads the headers of IPv6 and UDP.
#[inline(always)]
fn read_ipv6<C: Context>(packet: Packet<C>, at: u32, policy: &Policy) -> Result<Headers, Verdict> {
    let [first, source_high, source_low, high, low, udp]: [u64; 6] =
        packet.load(at).ok_or(Verdict::Length)?;
    if first & 0xf0 != 0x60 {
        return Err(Verdict::NotIp);
    }
    if (first >> 48) & 0xff != UDP {
        return Err(Verdict::IpOptions);
    }
    // Multicast, the unspecified address, loopback and IPv4-mapped addresses (RFC 4291, section 2).
    let loopback = 1u64.swap_bytes();
    let mapped = 0xffffu32.swap_bytes();
    if source_high & 0xff == 0xff
        || (source_high == 0
            && (source_low == 0 || source_low == loopback || source_low as u32 == mapped))
        || (source_high == high && source_low == low)
    {
        return Err(Verdict::Source);
    }
    if !is_local_ipv6(policy, high, low) {
        return Err(Verdict::NotLocal);
    }
    let addresses = halves(source_high)
        .wrapping_add(halves(source_low))
        .wrapping_add(halves(high))
        .wrapping_add(halves(low));
    Ok(Headers {
        udp,
        udp_octets: u32::from(((first >> 32) as u16).swap_bytes()),
        addresses,
    })
}

/// Not "this network", loopback, multicast, reserved or broadcast (RFC 1122, section 3.2.1.3).
#[inline(always)]
const fn is_answerable_ipv4(address: u32) -> bool {
    let first = address & 0xff;
    first != 0 && first != 127 && first < 224
}

#[inline(always)]
fn is_local_ipv4(policy: &Policy, address: u32) -> bool {
    for (index, own) in policy.ipv4.iter().enumerate().take(MAX_ADDRESSES) {
        if index as u32 >= policy.ipv4_count {
            return false;
        }
        if u32::from_le_bytes(*own) == address {
            return true;
        }
    }
    false
}

#[inline(always)]
fn is_local_ipv6(policy: &Policy, high: u64, low: u64) -> bool {
    for (index, own) in policy.ipv6.iter().enumerate().take(MAX_ADDRESSES) {
        if index as u32 >= policy.ipv6_count {
            return false;
        }
        let own = u128::from_le_bytes(*own);
        if own as u64 == high && (own >> 64) as u64 == low {
            return true;
        }
    }
    false
}

impl<C: Context> Message for Frame<C> {
    #[inline(always)]
    fn octets(&self) -> u32 {
        self.blur.blur_u32(self.octets)
    }

    #[inline(always)]
    fn load_u64(&self, at: u32) -> Option<u64> {
        self.packet.load::<u64>(self.at(at))
    }

    #[inline(always)]
    fn load_u32(&self, at: u32) -> Option<u32> {
        self.packet.load::<u32>(self.at(at))
    }

    #[inline(always)]
    fn ancestor<T: Table>(&self, _: &T, at: u32, octets: u32) -> Ancestor {
        Ancestor::from_bits(self.packet.ancestor(self.udp_at, at, octets))
    }

    #[inline(always)]
    fn ration(&mut self, end: u32, edns: Edns, question_sum: u64) -> Allowance {
        let place = Place {
            ip_at: self.ip_at,
            ipv6: self.ipv6,
            udp_at: self.udp_at,
        };
        let allowance = self.packet.allowance(place);
        if allowance == Allowance::Slip && !self.packet.slip(place, end, edns, question_sum) {
            return Allowance::Drop;
        }
        allowance
    }

    #[inline(always)]
    fn forget(&self, value: u64) -> u64 {
        self.blur.blur(value)
    }

    #[inline(always)]
    fn blur(&self, value: u32) -> u32 {
        self.blur.blur_u32(value)
    }

    #[inline(always)]
    fn bound(&self, offset: u32) -> u32 {
        packet::bound(offset)
    }

    #[inline(always)]
    fn resize(&mut self, octets: u32, kept: u32, query: &Sums) -> Result<(), Verdict> {
        if !self.is_intact(query) {
            return Err(Verdict::Checksum);
        }
        // The whole frame, not the message: padding does not stay behind the response.
        self.packet.resize(self.at(octets), self.at(kept))?;
        self.octets = octets;
        self.checksum = self.blur.blur(u64::from(self.checksum)) as u16;
        self.ipv6 = self.blur.blur(u64::from(self.ipv6)) != 0;
        Ok(())
    }

    #[inline(always)]
    fn shrink(&mut self, octets: u32) -> Option<()> {
        let octets_of_frame = self.at(octets);
        self.packet.resize(octets_of_frame, octets_of_frame).ok()?;
        self.octets = octets;
        Some(())
    }

    #[inline(always)]
    fn store_u64(&mut self, at: u32, word: u64) -> Option<()> {
        self.packet.store::<u64>(self.at(at), word)
    }

    #[inline(always)]
    fn store_words<const WORDS: usize>(&mut self, at: u32, words: [u64; WORDS]) -> Option<()> {
        self.packet.store(self.at(at), words)
    }

    #[inline(always)]
    fn store_u32(&mut self, at: u32, word: u32) -> Option<()> {
        self.packet.store::<u32>(self.at(at), word)
    }

    #[inline(always)]
    fn store_u16(&mut self, at: u32, word: u16) -> Option<()> {
        self.packet.store::<u16>(self.at(at), word)
    }

    #[inline(always)]
    fn seal(&mut self, response: &Sums) -> Option<()> {
        let packet = self.packet;
        let checksum = self.response_checksum(response)?;
        let udp_octets = self.octets + UDP_OCTETS;
        turn_ethernet(packet)?;
        if self.ipv6 {
            turn_ipv6(packet, self.ip_at, udp_octets, checksum)
        } else {
            turn_ipv4(packet, self.ip_at, udp_octets, checksum)
        }
    }
}

/// [`encloser::ancestor`] for a query whose UDP header starts at `udp_at`.
#[inline(always)]
pub(crate) fn ancestor<C: Context>(
    packet: Packet<C>,
    udp_at: u32,
    at: u32,
    octets: u32,
) -> Ancestor {
    let Ok(answers) = Answers::open() else {
        return Ancestor::MISS;
    };
    let query = Frame {
        packet,
        blur: Blur::new(answers.policy()),
        ip_at: 0,
        ipv6: false,
        udp_at,
        octets: 0,
        endpoints: 0,
        checksum: 0,
    };
    encloser::ancestor(&query, &answers, at, octets)
}

/// Where the headers of a frame are.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub(crate) ip_at: u32,
    pub(crate) ipv6: bool,
    pub(crate) udp_at: u32,
}

impl Place {
    #[inline(always)]
    pub(crate) fn bits(self) -> u64 {
        u64::from(self.ip_at) | u64::from(self.ipv6) << 16 | u64::from(self.udp_at) << 32
    }

    #[inline(always)]
    pub(crate) fn from_bits(bits: u64) -> Self {
        Self {
            ip_at: (bits & 0xffff) as u32,
            ipv6: bits & 1 << 16 != 0,
            udp_at: (bits >> 32) as u32,
        }
    }
}

/// Takes a response from the share of the prefix that the source of a frame is in, whose headers are
/// at `place`.
#[inline(always)]
pub(crate) fn allowance<C: Context>(packet: Packet<C>, place: Place) -> Option<Allowance> {
    let policy = Answers::open().ok()?.policy();
    let source = Source::read(packet, place.ip_at, place.ipv6)?;
    clients::allowance(policy, source)
}

/// [`write::slip`] for such a frame. Nothing fails but a bound that was checked before.
#[inline(always)]
pub(crate) fn slip<C: Context>(
    packet: Packet<C>,
    place: Place,
    end: u32,
    edns: Edns,
    question_sum: u64,
) -> Option<()> {
    let policy = Answers::open().ok()?.policy();
    let mut frame = Frame::again(packet, Blur::new(policy), place)?;
    write::slip(&mut frame, end, edns, question_sum)
}

/// Moves `octets` octets from `distance` to the start of the frame.
#[inline(always)]
pub(crate) fn move_to_front<C: Context>(
    packet: Packet<C>,
    distance: u32,
    octets: u32,
) -> Option<()> {
    let blur = Blur::by(u64::from(octets));
    let distance = blur.blur(distance.into()) as u32;
    let mut left = octets;
    let mut to = 0u32;
    // Bounded by the headers and the longest question.
    for _ in 0..MAX_KEPT_WORDS {
        if left < 8 {
            break;
        }
        let word: u64 = packet.load(to.wrapping_add(distance))?;
        packet.store(to, word)?;
        to = packet::bound(to.wrapping_add(8));
        left = left.wrapping_sub(8);
    }
    let left = blur.blur(left.into()) as u32;
    // Overlaps the word before.
    let at = (blur.blur(to.into()) as u32)
        .wrapping_add(left)
        .wrapping_sub(8);
    let word: u64 = packet.load(at.wrapping_add(distance))?;
    packet.store(at, word)
}

#[inline(always)]
fn turn_ethernet<C: Context>(packet: Packet<C>) -> Option<()> {
    let [to, middle, from] = packet.load::<[u32; 3]>(0)?;
    let turned = [
        middle >> 16 | from << 16,
        from >> 16 | to << 16,
        to >> 16 | middle << 16,
    ];
    packet.store(0, turned)
}

/// Swaps addresses and ports; no options, an atomic datagram (RFC 6864), nothing of the query's TOS.
#[inline(always)]
fn turn_ipv4<C: Context>(packet: Packet<C>, at: u32, udp_octets: u32, checksum: u16) -> Option<()> {
    let [_, _, _, source, destination, ports, _] = packet.load::<[u32; 7]>(at)?;
    const DONT_FRAGMENT: u32 = 0x4000u16.swap_bytes() as u32;
    let length = u32::from(((udp_octets + IPV4_OCTETS) as u16).swap_bytes());
    let mut header = [
        0x45 | length << 16,
        DONT_FRAGMENT << 16,
        (TTL | UDP << 8) as u32,
        destination,
        source,
    ];
    header[2] |= u32::from(!checksum::fold(checksum::ipv4_terms(header))) << 16;
    let [a, b, c, d, e] = header;
    let (ports, rest) = turn_udp(ports, udp_octets, checksum);
    packet.store(at, [a, b, c, d, e, ports, rest])
}

/// Swaps addresses and ports; traffic class and flow label zero.
#[inline(always)]
fn turn_ipv6<C: Context>(packet: Packet<C>, at: u32, udp_octets: u32, checksum: u16) -> Option<()> {
    let [_, source_high, source_low, high, low, udp] = packet.load::<[u64; 6]>(at)?;
    let first = 0x60 | u64::from((udp_octets as u16).swap_bytes()) << 32 | UDP << 48 | TTL << 56;
    let (ports, rest) = turn_udp(udp as u32, udp_octets, checksum);
    let udp = u64::from(ports) | u64::from(rest) << 32;
    packet.store(at, [first, high, low, source_high, source_low, udp])
}

/// The header of UDP in two halves: the ports swapped, length and checksum.
#[inline(always)]
fn turn_udp(ports: u32, udp_octets: u32, checksum: u16) -> (u32, u32) {
    let length = u32::from((udp_octets as u16).swap_bytes());
    (ports.rotate_left(16), length | u32::from(checksum) << 16)
}
