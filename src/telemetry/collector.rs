//! Which collector of traces the environment asks for.

/// The variables that name a collector, the more specific one first
/// (OpenTelemetry's "OTLP Exporter Configuration").
const ENDPOINTS: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
];

/// A collector, and who asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Collector {
    /// The variable.
    pub(super) variable: &'static str,
    /// Its value.
    pub(super) endpoint: String,
}

impl Collector {
    /// The one that these variables ask for, if any.
    pub(super) fn wanted(variable: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let set = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let is = |name, word| set(name).is_some_and(|v| v.trim().eq_ignore_ascii_case(word));
        if is("OTEL_SDK_DISABLED", "true") || is("OTEL_TRACES_EXPORTER", "none") {
            return None;
        }
        ENDPOINTS.into_iter().find_map(|variable| {
            let endpoint = set(variable)?;
            Some(Self { variable, endpoint })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318");
    const TRACES: (&str, &str) = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://t:4318/x");

    fn endpoint(set: &[(&str, &str)]) -> Option<String> {
        let value = |name: &str| {
            let found = set.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        Collector::wanted(value).map(|collector| collector.endpoint)
    }

    #[test]
    fn a_collector_is_wanted_only_if_one_is_named() {
        assert_eq!(endpoint(&[]), None);
        assert_eq!(endpoint(&[(ALL.0, " ")]), None);
        assert_eq!(endpoint(&[ALL]).as_deref(), Some(ALL.1));
        assert_eq!(endpoint(&[ALL, TRACES]).as_deref(), Some(TRACES.1));
    }

    #[test]
    fn the_variables_that_switch_it_off_do() {
        assert_eq!(endpoint(&[ALL, ("OTEL_SDK_DISABLED", "True")]), None);
        assert_eq!(endpoint(&[ALL, ("OTEL_TRACES_EXPORTER", "none")]), None);
        assert!(endpoint(&[ALL, ("OTEL_TRACES_EXPORTER", "otlp")]).is_some());
    }
}
