// SPDX-License-Identifier: Apache-2.0
//! `events --format prometheus`: what containers use, in the text exposition format 0.0.4, which Prometheus scrapes (by way of the node
//! exporter's textfile collector, or of whatever serves this program's output). Base units: seconds and bytes.
//!
//! What a host or controller does not count is left out; a limit that is not there, too.

use crate::cgroup::stats::{BlkioEntry, Psi, Stats};
use crate::container::usage::Usage;
use crate::texts::{Texts, texts};

/// A value in the unit that the kernel has it in.
enum Value {
    Number(u64),
    Nanoseconds(u64),
    Microseconds(u64),
}

/// Takes the labels beside the id, and the value.
type Emit<'a> = &'a mut dyn FnMut(&[(&str, &str)], Value);

/// One metric of every container.
struct Family {
    name: &'static str,
    /// It only grows.
    counter: bool,
    help: &'static str,
    values: fn(&Usage, Emit<'_>),
}

/// Makes two tables of one: of each metric its kind, its name and its help; and the functions that give its values.
macro_rules! families {
    ($($kind:ident $name:literal $help:literal => $values:expr;)*) => {
        const TEXTS: Texts = texts![$(stringify!($kind), $name, $help),*];
        const VALUES: &[fn(&Usage, Emit<'_>)] = &[$($values),*];
    };
}

/// Every metric.
fn families() -> impl Iterator<Item = Family> {
    let mut texts = TEXTS.iter();
    let mut text = move || texts.next().unwrap_or_default();
    VALUES.iter().map(move |&values| Family { counter: text() == "counter", name: text(), help: text(), values })
}

// The prefix `berth_container_` is before each name.
families! {
    gauge "info" "A container that exists, with its status and its bundle." => |usage, emit| {
        emit(&[("status", usage.status), ("bundle", &usage.bundle)], Value::Number(1));
    };
    counter "cpu_usage_seconds_total" "CPU time used." => |usage, emit| {
        with(usage, |stats| emit(&[], Value::Nanoseconds(stats.cpu.usage.total)));
    };
    counter "cpu_user_seconds_total" "CPU time used in programs." => |usage, emit| {
        with(usage, |stats| emit(&[], Value::Nanoseconds(stats.cpu.usage.user)));
    };
    counter "cpu_system_seconds_total" "CPU time used in the kernel." => |usage, emit| {
        with(usage, |stats| emit(&[], Value::Nanoseconds(stats.cpu.usage.kernel)));
    };
    counter "cpu_periods_total" "Periods of the CPU quota in which it ran." => |usage, emit| {
        with(usage, |stats| emit(&[], Value::Number(stats.cpu.throttling.periods)));
    };
    counter "cpu_throttled_periods_total" "Periods in which it used up its quota." => |usage, emit| {
        with(usage, |stats| emit(&[], Value::Number(stats.cpu.throttling.throttled_periods)));
    };
    counter "cpu_throttled_seconds_total" "Time in which it could not run because of its quota." => |usage, emit| {
        with(usage, |stats| emit(&[], Value::Nanoseconds(stats.cpu.throttling.throttled_time)));
    };
    gauge "memory_usage_bytes" "Memory in use, the page cache too." => |usage, emit| {
        with_memory(usage, |stats| emit(&[], Value::Number(stats.memory.usage.usage)));
    };
    gauge "memory_cache_bytes" "The page cache's part of it." => |usage, emit| {
        with_memory(usage, |stats| emit(&[], Value::Number(stats.memory.cache)));
    };
    gauge "memory_peak_bytes" "The most memory that was in use." => |usage, emit| {
        with_memory(usage, |stats| known(stats.memory.usage.max, emit));
    };
    gauge "memory_limit_bytes" "The limit of memory, where there is one." => |usage, emit| {
        with_memory(usage, |stats| known(stats.memory.usage.limit, emit));
    };
    gauge "memory_and_swap_usage_bytes" "Memory and swap in use." => |usage, emit| {
        with_memory(usage, |stats| emit(&[], Value::Number(stats.memory.swap.usage)));
    };
    counter "memory_limit_reached_total" "How often the limit of memory was reached." => |usage, emit| {
        with_memory(usage, |stats| emit(&[], Value::Number(stats.memory.usage.failcnt)));
    };
    counter "oom_kills_total" "Processes that the kernel has killed for lack of memory." => |usage, emit| {
        with_memory(usage, |_| emit(&[], Value::Number(usage.oom_kills)));
    };
    gauge "pids" "Tasks." => |usage, emit| with(usage, |stats| known(stats.pids.current, emit));
    gauge "pids_limit" "The most tasks there may be, where that is limited." => |usage, emit| {
        with(usage, |stats| known(stats.pids.limit, emit));
    };
    counter "io_bytes_total" "Bytes read from and written to block devices." => |usage, emit| {
        with(usage, |stats| devices(&stats.blkio.io_service_bytes_recursive, emit));
    };
    counter "io_operations_total" "Requests to block devices." => |usage, emit| {
        with(usage, |stats| devices(&stats.blkio.io_serviced_recursive, emit));
    };
    gauge "hugetlb_usage_bytes" "Huge pages in use." => |usage, emit| {
        with(usage, |stats| {
            stats.hugetlb.iter().for_each(|(size, entry)| emit(&[("pagesize", size)], Value::Number(entry.usage)));
        });
    };
    counter "pressure_waiting_seconds_total" "Time in which some task waited for this resource." => |usage, emit| {
        with(usage, |stats| stalls(stats, |psi| psi.some.total, emit));
    };
    counter "pressure_stalled_seconds_total" "Time in which all tasks waited for this resource." => |usage, emit| {
        with(usage, |stats| stalls(stats, |psi| psi.full.total, emit));
    };
}

fn with(usage: &Usage, then: impl FnOnce(&Stats)) {
    if let Some(stats) = usage.stats.as_deref() {
        then(stats);
    }
}

/// Where memory is counted at all.
fn with_memory(usage: &Usage, then: impl FnOnce(&Stats)) {
    if let Some(stats) = usage.stats.as_deref().filter(|stats| !stats.memory.raw.is_empty()) {
        then(stats);
    }
}

/// 0 and the largest number stand for what is not there.
fn known(value: u64, emit: Emit<'_>) {
    // Limits of cgroup v1 that are none are rounded down to whole pages.
    if value != 0 && value < u64::MAX >> 2 {
        emit(&[], Value::Number(value));
    }
}

fn devices(entries: &[BlkioEntry], emit: Emit<'_>) {
    for entry in entries {
        let operation = entry.op.to_ascii_lowercase();
        emit(&[("device", &format!("{}:{}", entry.major, entry.minor)), ("operation", &operation)], Value::Number(entry.value));
    }
}

fn stalls(stats: &Stats, total: fn(&Psi) -> u64, emit: Emit<'_>) {
    for (resource, psi) in [("cpu", &stats.cpu.psi), ("memory", &stats.memory.psi), ("io", &stats.blkio.psi)] {
        if let Some(psi) = psi {
            emit(&[("resource", resource)], Value::Microseconds(total(psi)));
        }
    }
}

/// All that is known of these containers.
pub fn text(all: &[Usage]) -> String {
    let mut out = String::new();
    for family in families() {
        let mut lines = String::new();
        for usage in all {
            (family.values)(usage, &mut |labels, value| {
                lines.push_str(&format!("berth_container_{}{{id=\"{}\"", family.name, escaped(&usage.id)));
                labels.iter().for_each(|(name, value)| lines.push_str(&format!(",{name}=\"{}\"", escaped(value))));
                lines.push_str("} ");
                lines.push_str(&number(value));
                lines.push('\n');
            });
        }
        if !lines.is_empty() {
            let kind = if family.counter { "counter" } else { "gauge" };
            let name = family.name;
            out.push_str(&format!(
                "# HELP berth_container_{name} {}\n# TYPE berth_container_{name} {kind}\n{lines}",
                family.help
            ));
        }
    }
    out
}

fn number(value: Value) -> String {
    match value {
        Value::Number(number) => number.to_string(),
        Value::Nanoseconds(time) => format!("{}.{:09}", time / 1_000_000_000, time % 1_000_000_000),
        Value::Microseconds(time) => format!("{}.{:06}", time / 1_000_000, time % 1_000_000),
    }
}

fn escaped(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(id: &str, stats: Option<Stats>) -> Usage {
        Usage { id: id.into(), bundle: "/b\"\\\n".into(), status: "running", stats: stats.map(Box::new), ..Usage::default() }
    }

    #[test]
    fn families_are_together_and_labels_escaped() {
        let mut stats = Stats::default();
        stats.cpu.usage.total = 1_500_000_001;
        stats.memory.raw.insert("anon".into(), 1);
        stats.memory.usage.limit = u64::MAX;
        stats.memory.usage.usage = 4096;
        stats.cpu.psi = Some(Psi::default());
        let text = text(&[usage("a", Some(stats.clone())), usage("b", Some(stats)), usage("c", None)]);
        let info = "# HELP berth_container_info A container that exists, with its status and its bundle.\n\
            # TYPE berth_container_info gauge\n\
            berth_container_info{id=\"a\",status=\"running\",bundle=\"/b\\\"\\\\\\n\"} 1\n";
        assert!(text.starts_with(info), "{text}");
        let cpu =
            "berth_container_cpu_usage_seconds_total{id=\"a\"} 1.500000001\nberth_container_cpu_usage_seconds_total{id=\"b\"} ";
        assert!(text.contains(cpu), "{text}");
        assert!(text.contains("berth_container_memory_usage_bytes{id=\"a\"} 4096\n") && !text.contains("memory_limit_bytes"));
        assert!(text.contains("pressure_waiting_seconds_total{id=\"a\",resource=\"cpu\"} 0.000000\n"), "{text}");
        assert!(!text.contains("pids") && !text.contains("{id=\"c\"}"), "what is not counted is left out: {text}");
    }

    #[test]
    fn names_are_unique_and_as_prometheus_wants_them() {
        assert_eq!(TEXTS.len(), 3 * VALUES.len());
        for (index, family) in families().enumerate() {
            assert!(families().take(index).all(|other| other.name != family.name), "{}", family.name);
            assert!(family.name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{}", family.name);
            assert_eq!(family.counter, family.name.ends_with("_total"), "{}", family.name);
        }
    }
}
