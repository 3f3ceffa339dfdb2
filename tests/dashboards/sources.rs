//! The queries of dashboard and alerts, and where each stands.

use std::path::Path;

use serde_json::Value;

/// An alert as the file has it.
pub(crate) struct Alert {
    pub(crate) name: String,
    pub(crate) runbook: String,
    expr: String,
    templates: Vec<String>,
}

pub(crate) fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Place and text of every query.
pub(crate) fn queries() -> Vec<(String, String)> {
    let mut found = dashboard_queries();
    found.extend(alerts().into_iter().map(|alert| (alert.name, alert.expr)));
    found
}

/// Place and text of every query of the dashboard.
pub(crate) fn dashboard_queries() -> Vec<(String, String)> {
    let dashboard = dashboard();
    let mut found = Vec::new();
    for (panel, target) in targets(&dashboard) {
        found.push((panel, text(&target["expr"])));
    }
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        if variable["type"] == "query" {
            // label_values(metric, label)
            let call = text(&variable["query"]["query"]);
            let inside = call.strip_prefix("label_values(").expect("label_values");
            let (metric, label) = inside.trim_end_matches(')').split_once(", ").unwrap();
            let name = text(&variable["name"]);
            found.push((format!("${name}"), format!("sum by ({label}) ({metric})")));
        }
    }
    assert!(found.len() > 25, "only {} queries were found", found.len());
    found
}

/// Place, query and the labels that its legend or its texts speak of.
pub(crate) fn legends() -> Vec<(String, String, Vec<String>)> {
    let dashboard = dashboard();
    let panels = targets(&dashboard).into_iter().map(|(panel, target)| {
        let legend = text(&target["legendFormat"]);
        (panel, text(&target["expr"]), between(&legend, "{{", "}}"))
    });
    let alerts = alerts().into_iter().map(|alert| {
        let labels = between(&alert.templates.join("\n"), "$labels.", " ");
        (alert.name, alert.expr, labels)
    });
    panels.chain(alerts).collect()
}

/// The rules, read line by line: the file keeps to one form.
pub(crate) fn alerts() -> Vec<Alert> {
    let yaml = read("deploy/prometheus/alerts.yaml");
    let mut found: Vec<Alert> = Vec::new();
    let mut block = false;
    for line in yaml.lines() {
        let trimmed = line.trim();
        if let Some(name) = trimmed.strip_prefix("- alert: ") {
            found.push(Alert {
                name: name.to_owned(),
                runbook: String::new(),
                expr: String::new(),
                templates: Vec::new(),
            });
            continue;
        }
        let Some(alert) = found.last_mut() else {
            continue;
        };
        let indent = line.len() - line.trim_start().len();
        if block && indent > 8 {
            alert.expr += trimmed;
            alert.expr += " ";
            continue;
        }
        block = trimmed == "expr: |";
        match trimmed.split_once(": ") {
            Some(("expr", query)) if !block => query.clone_into(&mut alert.expr),
            Some(("runbook", link)) => link.clone_into(&mut alert.runbook),
            Some(("summary" | "description", words)) => alert.templates.push(words.to_owned()),
            Some(_) | None => {}
        }
    }
    assert!(found.len() > 15, "only {} alerts were found", found.len());
    assert!(found.iter().all(|alert| !alert.expr.is_empty()));
    found
}

fn dashboard() -> Value {
    serde_json::from_str(&read("deploy/grafana/ringpush.json")).expect("JSON")
}

/// Each query of each panel, with the panel's title.
fn targets(dashboard: &Value) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            found.push((text(&panel["title"]), target.clone()));
        }
    }
    found
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

fn between(text: &str, open: &str, close: &str) -> Vec<String> {
    text.split(open)
        .skip(1)
        .map(|rest| rest.split(close).next().unwrap_or(rest).trim().to_owned())
        .collect()
}
