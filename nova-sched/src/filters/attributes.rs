//! What hosts say of themselves under names that requests can use.

use nova_core::domain::{HostState, Quantity};
use serde_json::Value;

/// Names under which [`of`] finds something on every host, or on those that tell.
pub(crate) const NAMES: [&str; 22] = [
    "cell_uuid",
    "cpu_allocation_ratio",
    "cpu_info",
    "disk_allocation_ratio",
    "disk_mb_used",
    "failed_builds",
    "free_disk_mb",
    "free_ram_mb",
    "host",
    "host_ip",
    "hypervisor_hostname",
    "hypervisor_type",
    "hypervisor_version",
    "nodename",
    "num_instances",
    "num_io_ops",
    "ram_allocation_ratio",
    "stats",
    "total_usable_disk_gb",
    "total_usable_ram_mb",
    "vcpus_total",
    "vcpus_used",
];

/// What `host` says under `name`: Nova's names of a host's attributes. None for a name that nothing
/// bears, and for what the host does not tell.
pub(crate) fn of(host: &HostState, name: &str) -> Option<Value> {
    let report = &host.report;
    let inventory = &host.inventory;
    let text = |text: &str| Some(Value::from(text));
    Some(match name {
        "host" => host.name.as_str().into(),
        "nodename" | "hypervisor_hostname" => node(host).into(),
        "total_usable_ram_mb" => inventory.memory.total().amount().into(),
        "total_usable_disk_gb" => inventory.disk.total().amount().into(),
        "vcpus_total" => inventory.vcpus.total().amount().into(),
        "free_ram_mb" => host.free_memory().into(),
        "free_disk_mb" => host.free_disk().into(),
        "disk_mb_used" => {
            let claimed = || host.used().disk.to_mib().get().into();
            host.measured.map_or_else(claimed, |measured| measured.disk_used.into())
        }
        "vcpus_used" => host.vcpus_used().into(),
        "num_instances" => host.instances().into(),
        "num_io_ops" => host.io_ops.into(),
        "failed_builds" => host.failed_builds.into(),
        "hypervisor_type" => {
            return text(&report.hypervisor).filter(|_| !report.hypervisor.is_empty());
        }
        "hypervisor_version" => host.hypervisor_version?.into(),
        "host_ip" => report.address?.to_string().into(),
        "cpu_allocation_ratio" => inventory.vcpus.ratio().get().into(),
        "ram_allocation_ratio" => inventory.memory.ratio().get().into(),
        "disk_allocation_ratio" => inventory.disk.ratio().get().into(),
        "cpu_info" => return text(report.cpu_info.as_deref()?),
        "cell_uuid" => return text(report.cell.as_deref()?),
        "stats" => {
            let stats = report.stats.iter();
            Value::Object(stats.map(|(key, value)| (key.clone(), value.as_str().into())).collect())
        }
        _ => return None,
    })
}

/// The name of the host's hypervisor: its own where the host does not tell of another.
pub(crate) fn node(host: &HostState) -> &str {
    host.report.node.as_deref().unwrap_or(host.name.as_str())
}

/// The text that stands for `value` where Nova compares it as one: that of Python.
pub(crate) fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => repr(other),
    }
}

fn repr(value: &Value) -> String {
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Number(number) if number.is_f64() => float(number.as_f64().unwrap_or_default()),
        Value::Number(number) => number.to_string(),
        Value::String(text) => quoted(text),
        Value::Array(items) => {
            format!("[{}]", items.iter().map(repr).collect::<Vec<_>>().join(", "))
        }
        Value::Object(members) => {
            let member =
                |(key, value): (&String, &Value)| format!("{}: {}", quoted(key), repr(value));
            format!("{{{}}}", members.iter().map(member).collect::<Vec<_>>().join(", "))
        }
    }
}

/// The shortest number that reads back as the same, with a point or an exponent.
fn float(number: f64) -> String {
    let text = format!("{number:?}");
    match text.split_once('e') {
        None => text,
        Some((digits, exponent)) => {
            let (sign, exponent) = match exponent.strip_prefix('-') {
                Some(exponent) => ('-', exponent),
                None => ('+', exponent),
            };
            format!("{digits}e{sign}{exponent:0>2}")
        }
    }
}

fn quoted(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut quoted = String::from(quote);
    for c in text.chars() {
        if c == quote || c == '\\' {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted.push(quote);
    quoted
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use nova_core::domain::HostReport;
    use serde_json::json;

    use super::*;
    use crate::testkit::host;

    #[test]
    fn every_name_finds_something_on_a_host_that_tells() {
        let mut host = host(1);
        host.hypervisor_version = Some(6_000_000);
        host.report = Arc::new(HostReport {
            cell: Some("c".to_owned()),
            address: Some([10, 0, 0, 1].into()),
            hypervisor: "QEMU".to_owned(),
            cpu_info: Some("{}".to_owned()),
            ..HostReport::default()
        });
        for name in NAMES {
            assert!(of(&host, name).is_some(), "{name}");
        }
        assert_eq!(of(&host, "colour"), None);
        assert_eq!(of(&host, "free_disk_mb"), Some(json!(102_400)));
    }

    #[test]
    fn values_are_written_as_python_writes_them() {
        for (value, expected) in [
            (json!("a b"), "a b"),
            (json!(true), "True"),
            (json!(null), "None"),
            (json!(16), "16"),
            (json!(16.0), "16.0"),
            (json!(1e16), "1e+16"),
            (json!(1.5e-7), "1.5e-07"),
            (json!(["a", "b"]), "['a', 'b']"),
            (json!(["it's", 1, [2.5]]), "[\"it's\", 1, [2.5]]"),
            (json!({"a": {"b": false}}), "{'a': {'b': False}}"),
        ] {
            assert_eq!(text(&value), expected);
        }
    }
}
