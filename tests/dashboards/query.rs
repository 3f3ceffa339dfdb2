//! As much of `PromQL` as it takes to know which metrics, labels and values a
//! query asks for. Whether it is `PromQL` at all is for promtool to say.

use std::collections::BTreeSet;

use crate::worker::Exposition;

/// What a query asks for.
#[derive(Debug, Default)]
pub(crate) struct Query {
    pub(crate) selectors: Vec<Selector>,
    pub(crate) grouped_by: BTreeSet<String>,
    aggregates: bool,
}

/// A metric, and what its labels must be.
#[derive(Debug)]
pub(crate) struct Selector {
    pub(crate) metric: String,
    pub(crate) matchers: Vec<Matcher>,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct Matcher {
    pub(crate) label: String,
    operator: String,
    value: String,
}

impl Matcher {
    /// The values that it names one by one; none of a variable or a pattern.
    pub(crate) fn literal_values(&self) -> Vec<&str> {
        let pattern = self.operator.ends_with('~');
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '|');
        if self.value.starts_with('$') || (pattern && !self.value.chars().all(plain)) {
            Vec::new()
        } else if pattern {
            self.value.split('|').collect()
        } else {
            vec![&self.value]
        }
    }
}

impl Query {
    pub(crate) fn parse(text: &str) -> Self {
        let mut query = Self::default();
        let mut rest = text;
        while let Some(start) = rest.find(|c: char| c.is_ascii_alphabetic() || c == '_') {
            // A variable or a duration is not a name.
            let skip = rest[..start].ends_with(|c: char| c == '$' || c.is_ascii_digit());
            rest = &rest[start..];
            let end = rest
                .find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':')
                .unwrap_or(rest.len());
            let word = &rest[..end];
            rest = &rest[end..];
            if skip {
                continue;
            }
            if word.starts_with("ringpush_") || word.starts_with("rabbitmq_") || word == "up" {
                let (matchers, after) = matchers(rest);
                rest = after;
                let metric = word.to_owned();
                query.selectors.push(Selector { metric, matchers });
            } else if word == "by" {
                query.aggregates = true;
                let (inside, after) = enclosed(rest, '(', ')');
                query
                    .grouped_by
                    .extend(inside.split(',').map(|label| label.trim().to_owned()));
                rest = after;
            } else if matches!(word, "sum" | "max" | "min" | "count") {
                query.aggregates = true;
            } else {
                assert!(
                    KNOWN.contains(&word),
                    "{word} in {text}: a metric of ours, or a word this test should know?"
                );
            }
        }
        query
    }

    /// The labels of its result.
    pub(crate) fn result_labels(&self, exposed: &Exposition) -> BTreeSet<String> {
        if self.aggregates {
            return self.grouped_by.clone();
        }
        self.selectors
            .iter()
            .filter_map(|selector| exposed.labels(&selector.metric))
            .flatten()
            .collect()
    }
}

/// Functions and operators in use.
const KNOWN: [&str; 7] = [
    "rate",
    "increase",
    "histogram_quantile",
    "absent",
    "unless",
    "or",
    "vector",
];

fn matchers(text: &str) -> (Vec<Matcher>, &str) {
    if !text.starts_with('{') {
        return (Vec::new(), text);
    }
    let (inside, after) = enclosed(text, '{', '}');
    let mut found = Vec::new();
    let mut rest = inside;
    while let Some((head, tail)) = rest.split_once('"') {
        let (value, tail) = tail.split_once('"').expect("a value has two quotes");
        let head = head.trim_start_matches([',', ' ']);
        let end = head
            .find(['=', '!'])
            .expect("an operator between label and value");
        found.push(Matcher {
            label: head[..end].trim().to_owned(),
            operator: head[end..].trim().to_owned(),
            value: value.to_owned(),
        });
        rest = tail;
    }
    (found, after)
}

fn enclosed(text: &str, open: char, close: char) -> (&str, &str) {
    let start = text.find(open).expect("an opening bracket") + 1;
    let end = text.find(close).expect("a closing bracket");
    (&text[start..end], &text[end + 1..])
}

#[test]
fn metrics_labels_and_values_are_found() {
    let query = Query::parse(
        r#"sum by (app, le) (rate(ringpush_x_total{result=~"a|b_c", app=~"$app", env!="dev", q=~"a[.]b|c"}[5m])) > 0.5"#,
    );
    assert_eq!(query.selectors.len(), 1);
    let selector = &query.selectors[0];
    assert_eq!(selector.metric, "ringpush_x_total");
    let values: Vec<_> = selector
        .matchers
        .iter()
        .map(|matcher| (matcher.label.as_str(), matcher.literal_values()))
        .collect();
    let expected = [
        ("result", vec!["a", "b_c"]),
        ("app", vec![]),
        ("env", vec!["dev"]),
        ("q", vec![]),
    ];
    assert_eq!(values, expected);
    let labels: Vec<_> = query.grouped_by.iter().collect();
    assert_eq!(labels, ["app", "le"]);
}
