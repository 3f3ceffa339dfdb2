//! The variables that set up the export of traces, looked at before they are
//! used: the exporter takes what it cannot read for its default, in silence.

use super::TelemetryError;

/// What is wrong with a value, if anything is.
type Fault = fn(&str) -> Option<String>;

/// The variables of OpenTelemetry's "Environment Variable Specification" and
/// "OTLP Exporter Configuration" that are used here.
const CHECKS: [(&str, Fault); 10] = [
    ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", protocol),
    ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
    ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", number),
    ("OTEL_EXPORTER_OTLP_TIMEOUT", number),
    ("OTEL_BSP_MAX_QUEUE_SIZE", number),
    ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", number),
    ("OTEL_BSP_SCHEDULE_DELAY", number),
    ("OTEL_BSP_EXPORT_TIMEOUT", number),
    ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", headers),
    ("OTEL_EXPORTER_OTLP_HEADERS", headers),
];
const SAMPLER: &str = "OTEL_TRACES_SAMPLER";
const SAMPLER_ARG: &str = "OTEL_TRACES_SAMPLER_ARG";

/// Looks at all of them; one that is empty counts as unset.
///
/// # Errors
/// The first that cannot be used, and what to write instead. Values that may
/// be secret are not repeated.
pub(super) fn check(variable: impl Fn(&str) -> Option<String>) -> Result<(), TelemetryError> {
    let set = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
    for (variable, fault) in CHECKS {
        if let Some(problem) = set(variable).and_then(|value| fault(&value)) {
            return Err(TelemetryError::Variable { variable, problem });
        }
    }
    check_sampler(set(SAMPLER).as_deref(), set(SAMPLER_ARG).as_deref())
}

fn protocol(value: &str) -> Option<String> {
    (value.trim() != "http/protobuf").then(|| {
        format!(
            "is \"{value}\", but spans are sent by http/protobuf only; set it to that and name \
             the collector's HTTP port (4318)"
        )
    })
}

fn number(value: &str) -> Option<String> {
    let positive = value.trim().parse::<u32>().is_ok_and(|number| number > 0);
    (!positive).then(|| {
        format!(
            "is \"{value}\" and not a whole number above 0 (times are in milliseconds, without a \
             unit)"
        )
    })
}

fn headers(value: &str) -> Option<String> {
    let right = value.split(',').all(is_header);
    (!right).then(|| "is not of the form name=value,name=value".to_owned())
}

fn check_sampler(sampler: Option<&str>, arg: Option<&str>) -> Result<(), TelemetryError> {
    let Some(sampler) = sampler else {
        return Ok(());
    };
    let (variable, problem) = match sampler {
        "always_on" | "always_off" | "parentbased_always_on" | "parentbased_always_off" => {
            return Ok(());
        }
        "traceidratio" | "parentbased_traceidratio" => {
            let ratio = arg.map(|arg| arg.trim().parse::<f64>());
            if matches!(ratio, Some(Ok(ratio)) if (0.0..=1.0).contains(&ratio)) {
                return Ok(());
            }
            let arg = arg.unwrap_or("not set");
            let problem = format!("is {arg}; {sampler} needs a share between 0 and 1 there");
            (SAMPLER_ARG, problem)
        }
        _ => {
            let problem = format!(
                "is \"{sampler}\"; write always_on, always_off, traceidratio, or one of them \
                 behind parentbased_"
            );
            (SAMPLER, problem)
        }
    };
    Err(TelemetryError::Variable { variable, problem })
}

fn is_header(pair: &str) -> bool {
    let name = pair.split_once('=').map(|(name, _)| name.trim());
    name.is_some_and(|name| http::HeaderName::try_from(name).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(name: &str, value: &str) -> Result<(), String> {
        let all = [(name, value)];
        check(|wanted| {
            let found = all.iter().find(|(name, _)| *name == wanted);
            found.map(|(_, value)| (*value).to_owned())
        })
        .map_err(|error| error.to_string())
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        for (name, value) in [
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
            ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "0"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "many"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "nonsense"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a=b,two words=c"),
            ("OTEL_TRACES_SAMPLER", "bogus"),
        ] {
            let error = checked(name, value).unwrap_err();
            assert!(error.starts_with(&format!("{name} is ")), "{error}");
        }
        let error = checked("OTEL_TRACES_SAMPLER", "traceidratio").unwrap_err();
        assert!(
            error.starts_with("OTEL_TRACES_SAMPLER_ARG is not set"),
            "{error}"
        );
    }

    #[test]
    fn a_header_is_not_repeated_for_it_may_be_a_credential() {
        let error = checked("OTEL_EXPORTER_OTLP_HEADERS", "Bearer hunter2").unwrap_err();
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn what_can_be_used_passes() {
        for (name, value) in [
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", ""),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "2500"),
            (
                "OTEL_EXPORTER_OTLP_HEADERS",
                "authorization=Basic%20YQ==,x-tenant=one",
            ),
            ("OTEL_TRACES_SAMPLER", "parentbased_always_off"),
            (
                "OTEL_TRACES_SAMPLER_ARG",
                "whatever, without a sampler that takes it",
            ),
        ] {
            checked(name, value).unwrap();
        }
        let ratio = |name: &str| match name {
            SAMPLER => Some("parentbased_traceidratio".to_owned()),
            SAMPLER_ARG => Some("0.25".to_owned()),
            _ => None,
        };
        check(ratio).unwrap();
    }
}
