//! Which collector of traces the environment asks for.

use reqwest::Url;

use super::TelemetryError;

/// Variables that name a collector, the more specific one first, and what is
/// added to their value (OpenTelemetry's "OTLP Exporter Configuration").
const ENDPOINTS: [(&str, &str); 2] = [
    ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", ""),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "/v1/traces"),
];

/// A collector, and who asks for it.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Collector {
    /// The variable.
    pub(super) variable: &'static str,
    /// Where spans go.
    url: Url,
}

impl Collector {
    /// The one that these variables ask for, if any.
    ///
    /// # Errors
    /// An address that cannot be used; it is not repeated.
    pub(super) fn wanted(
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, TelemetryError> {
        let set = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let is = |name, word| set(name).is_some_and(|v| v.trim().eq_ignore_ascii_case(word));
        if is("OTEL_SDK_DISABLED", "true") || is("OTEL_TRACES_EXPORTER", "none") {
            return Ok(None);
        }
        let asked = ENDPOINTS
            .into_iter()
            .find_map(|(variable, path)| Some((variable, path, set(variable)?)));
        let Some((variable, path, endpoint)) = asked else {
            return Ok(None);
        };
        let fault = |problem: &str| TelemetryError::Variable {
            variable,
            problem: problem.to_owned(),
        };
        let mut url = Url::parse(endpoint.trim())
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
            .ok_or_else(|| fault("is not an address such as http://127.0.0.1:4318"))?;
        if !path.is_empty() {
            url.set_path(&format!("{}{path}", url.path().trim_end_matches('/')));
        }
        if !url.username().is_empty() || url.password().is_some() {
            let cure = "holds a credential, which is not sent from there; put it into \
                        OTEL_EXPORTER_OTLP_HEADERS, such as authorization=Basic%20…";
            return Err(fault(cure));
        }
        Ok(Some(Self { variable, url }))
    }

    /// The whole address. Its query may be secret.
    #[cfg_attr(not(feature = "otlp"), allow(dead_code, reason = "nobody sends to it"))]
    pub(super) fn traces_url(&self) -> &str {
        self.url.as_str()
    }

    /// The address without what may be secret.
    pub(super) fn shown(&self) -> String {
        let mut url = self.url.clone();
        url.set_query(None);
        url.set_fragment(None);
        url.into()
    }
}

impl std::fmt::Debug for Collector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Collector({} {})", self.variable, self.shown())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318");
    const TRACES: (&str, &str) = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://t:4318/x?k=1");

    fn wanted(set: &[(&str, &str)]) -> Result<Option<Collector>, String> {
        let value = |name: &str| {
            let found = set.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        Collector::wanted(value).map_err(|error| error.to_string())
    }

    fn url(set: &[(&str, &str)]) -> Option<String> {
        let collector = wanted(set).unwrap();
        collector.map(|collector| collector.traces_url().to_owned())
    }

    #[test]
    fn a_collector_is_wanted_only_if_one_is_named() {
        assert_eq!(url(&[]), None);
        assert_eq!(url(&[(ALL.0, " ")]), None);
        for same in ["http://c:4318", " http://c:4318/ "] {
            assert_eq!(url(&[(ALL.0, same)]).unwrap(), "http://c:4318/v1/traces");
        }
        assert_eq!(url(&[ALL, TRACES]).as_deref(), Some(TRACES.1));
    }

    #[test]
    fn the_variables_that_switch_it_off_do() {
        assert_eq!(url(&[ALL, ("OTEL_SDK_DISABLED", "True")]), None);
        assert_eq!(url(&[ALL, ("OTEL_TRACES_EXPORTER", "none")]), None);
        assert!(url(&[ALL, ("OTEL_TRACES_EXPORTER", "otlp")]).is_some());
    }

    #[test]
    fn an_address_that_cannot_be_used_is_named_and_not_repeated() {
        for address in ["collector:4318", "ftp://c:1", "http://", "4318"] {
            let error = wanted(&[(ALL.0, address)]).unwrap_err();
            assert!(
                error.starts_with("OTEL_EXPORTER_OTLP_ENDPOINT is not"),
                "{error}"
            );
        }
        let error = wanted(&[(ALL.0, "http://u:hunter2@c:4318")]).unwrap_err();
        assert!(error.contains("OTEL_EXPORTER_OTLP_HEADERS"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn a_query_is_not_shown() {
        let collector = wanted(&[TRACES]).unwrap().unwrap();
        assert_eq!(collector.shown(), "http://t:4318/x");
        assert!(!format!("{collector:?}").contains("k=1"));
    }
}
