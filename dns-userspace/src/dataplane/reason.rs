//! Errors of the kernel in an operator's words.

use std::io;

/// The chain of causes without repetitions, and what to do about the last one.
pub(super) fn explain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        // Some errors quote their cause themselves.
        if text.ends_with(&cause) {
            continue;
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&cause);
    }
    let code = error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .find_map(io::Error::raw_os_error);
    if let Some(advice) = code.and_then(advice) {
        text.push_str("; ");
        text.push_str(advice);
    }
    text
}

const fn advice(code: i32) -> Option<&'static str> {
    Some(match code {
        libc::EPERM | libc::EACCES => {
            "XDP needs root, or the capabilities CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON"
        }
        libc::EOPNOTSUPP => {
            "the driver has no native XDP; xdp.mode generic works on any interface, but slowly"
        }
        libc::ERANGE | libc::EINVAL => {
            "the driver may not take XDP at this MTU or with these offloads"
        }
        libc::EBUSY | libc::EEXIST => "another XDP program is attached there",
        libc::ENOMEM => "xdp.max_names says how much memory the maps take",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    fn error(code: i32) -> anyhow::Error {
        io::Error::from_raw_os_error(code).into()
    }

    #[test]
    fn causes_are_told_once_and_with_advice() {
        let refused = Err::<(), _>(error(libc::EOPNOTSUPP))
            .context("attaching")
            .context("native XDP on lo");
        let text = explain(&refused.unwrap_err());
        assert_eq!(
            text,
            "native XDP on lo: attaching: Operation not supported (os error 95); the driver has \
             no native XDP; xdp.mode generic works on any interface, but slowly"
        );
        let quoting = error(libc::EPERM).context("maps: Operation not permitted (os error 1)");
        let text = explain(&quoting);
        assert!(
            text.starts_with("maps: Operation not permitted (os error 1); XDP needs root"),
            "{text}"
        );
        assert_eq!(explain(&anyhow::anyhow!("no such map")), "no such map");
    }
}
