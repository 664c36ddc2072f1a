//! The text format of Prometheus, 0.0.4, from OpenMetrics: the samples are the same, and what is said
//! of them differs.

/// The same page. Type and help of a counter have the name of its samples, which ends in `_total`;
/// units and the end are not told.
pub(super) fn of(openmetrics: &str) -> String {
    let mut text = String::with_capacity(openmetrics.len() + (openmetrics.len() >> 4));
    let mut help = None;
    for line in openmetrics.lines() {
        if let Some(described) = line.strip_prefix("# HELP ") {
            help = described.split_once(' ');
        } else if let Some((name, kind)) = line
            .strip_prefix("# TYPE ")
            .and_then(|one| one.split_once(' '))
        {
            let (suffix, kind) = match kind {
                "counter" => ("_total", kind),
                "unknown" => ("", "untyped"),
                _ => ("", kind),
            };
            if let Some((_, help)) = help.take().filter(|(described, _)| *described == name) {
                text.push_str(&format!("# HELP {name}{suffix} {help}\n"));
            }
            text.push_str(&format!("# TYPE {name}{suffix} {kind}\n"));
        } else if !line.starts_with('#') {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    /// From the texts of both formats: OpenMetrics 1.0, "Counter" and "Histogram"; Prometheus,
    /// "Exposition formats".
    #[test]
    fn what_is_said_of_samples_has_their_name() {
        let openmetrics = "\
            # HELP foo_seconds Time # of it.\n\
            # TYPE foo_seconds counter\n\
            # UNIT foo_seconds seconds\n\
            foo_seconds_total{a=\"# HELP\"} 17.0\n\
            # TYPE bar histogram\n\
            bar_bucket{le=\"+Inf\"} 2\n\
            bar_sum 3.0\n\
            bar_count 2\n\
            # TYPE baz unknown\n\
            baz 1\n\
            # EOF\n";
        let text = "\
            # HELP foo_seconds_total Time # of it.\n\
            # TYPE foo_seconds_total counter\n\
            foo_seconds_total{a=\"# HELP\"} 17.0\n\
            # TYPE bar histogram\n\
            bar_bucket{le=\"+Inf\"} 2\n\
            bar_sum 3.0\n\
            bar_count 2\n\
            # TYPE baz untyped\n\
            baz 1\n";
        assert_eq!(super::of(openmetrics), text);
    }
}
