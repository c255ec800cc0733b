// SPDX-License-Identifier: Apache-2.0
//! The properties of the transient unit that a container gets from systemd (systemd.scope(5), systemd.resource-control(5),
//! org.freedesktop.systemd1(5)).
//!
//! Called by [`super::plan`], and by `update` for [`of_limits`] alone. Limits are written into the cgroup's files in any case; systemd is
//! told of those it has a property for so that it does not write its own value over them (`systemctl daemon-reload`).

use std::collections::BTreeMap;

use super::gvariant::{self, Value};
use super::path::Systemd;
use super::{Absent, CgroupWrite, Tree};
use crate::spec::Problem;
use crate::texts::{Texts, texts};

/// One property of a unit.
#[derive(Clone, Debug, PartialEq)]
pub struct Property {
    /// Its name: `MemoryMax`.
    pub name: String,
    /// Its value.
    pub value: Value,
    /// An older systemd may refuse it, and is then asked again without it.
    pub optional: bool,
}

pub(super) fn property(name: &str, value: Value) -> Property {
    Property { name: name.to_string(), value, optional: false }
}

/// Annotations with this prefix ask for a property.
const PREFIX: &str = "org.systemd.property.";

/// Properties that an annotation may set: how the unit is described, ordered, killed, collected, and what it may use. Not those that
/// start other units, act on the host (FailureAction, …) or take the unit out of the runtime's hands: annotations come from whoever
/// wrote the pod (CVE-2024-3154 in CRI-O).
const ALLOWED: Texts = texts![
    "After",
    "AllowedCPUs",
    "AllowedMemoryNodes",
    "Before",
    "BlockIOAccounting",
    "CPUAccounting",
    "CPUQuotaPerSecUSec",
    "CPUQuotaPeriodUSec",
    "CPUWeight",
    "CollectMode",
    "DefaultDependencies",
    "Description",
    "Documentation",
    "FinalKillSignal",
    "IOAccounting",
    "IOReadBandwidthMax",
    "IOReadIOPSMax",
    "IOWeight",
    "IOWriteBandwidthMax",
    "IOWriteIOPSMax",
    "IPAccounting",
    "KillMode",
    "KillSignal",
    "ManagedOOMMemoryPressure",
    "ManagedOOMPreference",
    "ManagedOOMSwap",
    "MemoryAccounting",
    "MemoryHigh",
    "MemoryLow",
    "MemoryMax",
    "MemoryMin",
    "MemorySwapMax",
    "MemoryZSwapMax",
    "OOMPolicy",
    "RestartKillSignal",
    "RuntimeMaxUSec",
    "SendSIGHUP",
    "SendSIGKILL",
    "StartupAllowedCPUs",
    "StartupAllowedMemoryNodes",
    "StartupCPUWeight",
    "StartupIOWeight",
    "TasksAccounting",
    "TasksMax",
    "TimeoutStopUSec",
    "WatchdogSignal",
];

/// All properties of a container's unit but its first process.
pub fn unit(
    unit: &Systemd,
    writes: &[CgroupWrite],
    annotations: &BTreeMap<String, String>,
) -> Result<Vec<Property>, Vec<Problem>> {
    let mut properties = vec![
        property("Description", Value::Text(format!("berth container {}", unit.name))),
        property("DefaultDependencies", Value::Bool(false)),
        property("CPUAccounting", Value::Bool(true)),
        property("IOAccounting", Value::Bool(true)),
        property("MemoryAccounting", Value::Bool(true)),
        property("TasksAccounting", Value::Bool(true)),
        // A unit whose processes were killed for memory is "failed", and would keep its name taken.
        property("CollectMode", Value::Text("inactive-or-failed".to_string())),
    ];
    if unit.is_slice() {
        properties.push(property("Wants", Value::Texts(vec![unit.slice.clone()])));
    } else {
        properties.push(property("Slice", Value::Text(unit.slice.clone())));
        properties.push(property("Delegate", Value::Bool(true)));
    }
    let mut problems = Vec::new();
    // Whether there is a file of BFQ's for weights is known when the unit is there; mostly there is none.
    let writes: Vec<CgroupWrite> = writes.iter().map(without_bfq).collect();
    match of_limits(&writes) {
        Ok(limits) => properties.extend(limits),
        Err(more) => problems.extend(more),
    }
    for (key, text) in annotations {
        let Some(name) = key.strip_prefix(PREFIX) else { continue };
        match of_annotation(name, text) {
            // The annotation has the last word.
            Ok(asked) => {
                properties.retain(|property| property.name != asked.name);
                properties.push(asked);
            }
            Err(rule) => problems.push(Problem::new(format!("annotations[{key:?}]"), rule)),
        }
    }
    if problems.is_empty() { Ok(properties) } else { Err(problems) }
}

fn of_annotation(name: &str, text: &str) -> Result<Property, String> {
    let mut value = gvariant::parse(text)?;
    let mut name = name.to_string();
    // Unit files have TimeoutStopSec, D-Bus has TimeoutStopUSec; people write either.
    if let Some(stem) = name.strip_suffix("Sec").filter(|stem| stem.ends_with(|c: char| c.is_ascii_lowercase())) {
        name = format!("{stem}USec");
        value = Value::U64(microseconds(&value)?);
    }
    if !ALLOWED.contains(&name) {
        return Err(format!("the unit property {name} cannot be set by annotation; those that can are {}", ALLOWED.join(", ")));
    }
    Ok(Property { name, value, optional: false })
}

fn microseconds(seconds: &Value) -> Result<u64, String> {
    let whole = match seconds {
        Value::Byte(number) => Some(u64::from(*number)),
        Value::I16(number) => u64::try_from(*number).ok(),
        Value::U16(number) => Some(u64::from(*number)),
        Value::I32(number) => u64::try_from(*number).ok(),
        Value::U32(number) => Some(u64::from(*number)),
        Value::I64(number) => u64::try_from(*number).ok(),
        Value::U64(number) => Some(*number),
        Value::F64(number) if *number >= 0.0 && *number < 1e12 => return Ok((number * 1e6) as u64),
        _ => None,
    };
    whole.and_then(|whole| whole.checked_mul(1_000_000)).ok_or_else(|| "is no number of seconds".to_string())
}

fn without_bfq(write: &CgroupWrite) -> CgroupWrite {
    match &write.absent {
        Absent::Instead { file, value } => CgroupWrite { file: file.clone(), value: value.clone(), ..write.clone() },
        _ => write.clone(),
    }
}

/// The properties for limits, from what is written into the files of cgroup2. Files without a property are not mentioned.
pub fn of_limits(writes: &[CgroupWrite]) -> Result<Vec<Property>, Vec<Problem>> {
    let mut properties: Vec<Property> = Vec::new();
    let mut problems = Vec::new();
    for write in writes.iter().filter(|write| write.tree == Tree::V2) {
        match of_write(&write.file, write.value.trim()) {
            Ok(found) => {
                found.into_iter().for_each(|property| add(&mut properties, property));
            }
            Err(rule) => problems.push(Problem::new(&write.at, rule)),
        }
    }
    if problems.is_empty() { Ok(properties) } else { Err(problems) }
}

/// The properties for what the files of a cgroup held before: what cannot be said to systemd is left out.
pub fn of_values(values: &[CgroupWrite]) -> Vec<Property> {
    let mut properties = Vec::new();
    for value in values.iter().filter(|value| value.tree == Tree::V2) {
        let found = of_write(&value.file, value.value.trim()).unwrap_or_default();
        found.into_iter().for_each(|property| add(&mut properties, property));
    }
    properties
}

/// Adds a property. Of two writes into one file the later one holds; of those for devices, for each device.
fn add(properties: &mut Vec<Property>, property: Property) {
    if let (Some(Value::Rates(known)), Value::Rates(more)) =
        (properties.iter_mut().find(|known| known.name == property.name).map(|known| &mut known.value), &property.value)
    {
        known.retain(|(device, _)| !more.iter().any(|(other, _)| other == device));
        known.extend(more.iter().cloned());
        return;
    }
    properties.retain(|known| known.name != property.name);
    properties.push(property);
}

fn of_write(file: &str, value: &str) -> Result<Vec<Property>, String> {
    let one = |name: &str, value: Value| Ok(vec![property(name, value)]);
    match file {
        "memory.max" => one("MemoryMax", size(file, value)?),
        "memory.high" => one("MemoryHigh", size(file, value)?),
        "memory.low" => one("MemoryLow", size(file, value)?),
        "memory.min" => one("MemoryMin", size(file, value)?),
        "memory.swap.max" => one("MemorySwapMax", size(file, value)?),
        // Since systemd 253.
        "memory.zswap.max" => Ok(vec![Property { optional: true, ..property("MemoryZSwapMax", size(file, value)?) }]),
        // Since systemd 253 for scopes.
        "memory.oom.group" => {
            let policy = if value == "1" { "kill" } else { "continue" };
            Ok(vec![Property { optional: true, ..property("OOMPolicy", Value::Text(policy.to_string())) }])
        }
        "pids.max" => one("TasksMax", size(file, value)?),
        "cpu.weight" => one("CPUWeight", size(file, value)?),
        // Weight 0 is systemd's word for idle, since 252.
        "cpu.idle" if value == "1" => Ok(vec![Property { optional: true, ..property("CPUWeight", Value::U64(0)) }]),
        "cpu.max" => quota(value),
        "cpuset.cpus" => one("AllowedCPUs", Value::Bytes(bits(file, value)?)),
        "cpuset.mems" => one("AllowedMemoryNodes", Value::Bytes(bits(file, value)?)),
        "io.max" => Ok(rates(value)),
        // What cgroup2 has in two files, one for each scheduler, systemd has in one property, on the scale of io.weight.
        "io.weight" => Ok(io_weight(value, u64::from)),
        "io.bfq.weight" => Ok(io_weight(value, io_weight_of_bfq)),
        _ => Ok(Vec::new()),
    }
}

/// A number; `max` is the largest there is.
fn size(file: &str, value: &str) -> Result<Value, String> {
    match value {
        "max" => Ok(Value::U64(u64::MAX)),
        number => number.parse().map(Value::U64).map_err(|_| format!("{number:?} is neither a number for {file} nor \"max\"")),
    }
}

/// `quota [period]`, where systemd has the quota per second.
fn quota(value: &str) -> Result<Vec<Property>, String> {
    let bad = || format!("{value:?} is no quota and period for cpu.max");
    let mut words = value.split_whitespace();
    let quota = words.next().ok_or_else(bad)?;
    let period: Option<u64> = words.next().map(|word| word.parse().map_err(|_| bad())).transpose()?;
    if words.next().is_some() || period == Some(0) {
        return Err(bad());
    }
    let mut properties = Vec::new();
    if let Some(period) = period {
        properties.push(property("CPUQuotaPeriodUSec", Value::U64(period)));
    }
    let per_second = match quota {
        "max" => u64::MAX,
        number => {
            let quota: u64 = number.parse().map_err(|_| bad())?;
            let exact = quota.checked_mul(1_000_000).ok_or_else(bad)? / period.unwrap_or(100_000);
            // systemd keeps it as a whole percentage across a reload, cut off: never less than what was asked.
            exact.div_ceil(10_000).saturating_mul(10_000)
        }
    };
    properties.push(property("CPUQuotaPerSecUSec", Value::U64(per_second)));
    Ok(properties)
}

/// `8:0 rbps=1 wiops=max`: one property for each kind of rate. What is no such line is the kernel's to refuse.
fn rates(line: &str) -> Vec<Property> {
    let mut words = line.split_whitespace();
    let device = format!("/dev/block/{}", words.next().unwrap_or_default());
    let rate = |word: &str| {
        let (key, rate) = word.split_once('=')?;
        let name = match key {
            "rbps" => "IOReadBandwidthMax",
            "wbps" => "IOWriteBandwidthMax",
            "riops" => "IOReadIOPSMax",
            "wiops" => "IOWriteIOPSMax",
            _ => return None,
        };
        let rate = if rate == "max" { u64::MAX } else { rate.parse().ok()? };
        Some(property(name, Value::Rates(vec![(device.clone(), rate)])))
    };
    words.filter_map(rate).collect()
}

/// `100`, `default 100` or `8:0 100`.
fn io_weight(line: &str, scale: impl Fn(u16) -> u64) -> Vec<Property> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let number = |word: &str| word.parse().ok().map(&scale);
    let found = match words[..] {
        [weight] | ["default", weight] => number(weight).map(|weight| property("IOWeight", Value::U64(weight))),
        [device, weight] => {
            number(weight).map(|weight| property("IODeviceWeight", Value::Rates(vec![(format!("/dev/block/{device}"), weight)])))
        }
        _ => None,
    };
    found.into_iter().collect()
}

/// The IOWeight for which systemd writes this weight into io.bfq.weight: it maps 100 to 10000 onto 100 to 1000, and leaves what is less.
fn io_weight_of_bfq(weight: u16) -> u64 {
    let weight = u64::from(weight);
    if weight <= 100 { weight } else { 100 + (weight - 100) * 11 }
}

/// `0-3,7` as a set of bits, the lowest first; an empty list is an empty set, which lifts the limit.
fn bits(file: &str, list: &str) -> Result<Vec<u8>, String> {
    /// More CPUs than any kernel can be built for.
    const MOST: usize = 1 << 16;
    if list.is_empty() {
        return Ok(Vec::new());
    }
    let bad = || format!("{list:?} is no list like \"0-3,7\" for {file}");
    let mut bits = Vec::new();
    for range in list.split(',').map(str::trim) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let first: usize = first.trim().parse().map_err(|_| bad())?;
        let last: usize = last.trim().parse().map_err(|_| bad())?;
        if first > last || last >= MOST {
            return Err(bad());
        }
        for bit in first..=last {
            if bits.len() <= bit / 8 {
                bits.resize(bit / 8 + 1, 0);
            }
            bits[bit / 8] |= 1 << (bit % 8);
        }
    }
    Ok(bits)
}

#[cfg(test)]
mod tests {
    use super::super::Absent;
    use super::*;

    fn write(file: &str, value: &str) -> CgroupWrite {
        CgroupWrite {
            tree: Tree::V2,
            controller: String::new(),
            file: file.into(),
            value: value.into(),
            at: format!("at {file}"),
            absent: Absent::Error,
            unless_used: None,
        }
    }

    fn limits(writes: &[(&str, &str)]) -> Vec<(String, Value)> {
        let writes: Vec<CgroupWrite> = writes.iter().map(|(file, value)| write(file, value)).collect();
        of_limits(&writes).unwrap().into_iter().map(|property| (property.name, property.value)).collect()
    }

    #[test]
    fn limits_that_systemd_knows() {
        let number = |name: &str, value| (name.to_string(), Value::U64(value));
        assert_eq!(
            limits(&[
                ("memory.max", "5"),
                ("memory.swap.max", "max"),
                ("memory.low", "3"),
                ("pids.max", "7"),
                ("cpu.weight", "100")
            ]),
            [
                number("MemoryMax", 5),
                number("MemorySwapMax", u64::MAX),
                number("MemoryLow", 3),
                number("TasksMax", 7),
                number("CPUWeight", 100)
            ]
        );
        assert_eq!(
            limits(&[("cpu.max", "50000 100000")]),
            [number("CPUQuotaPeriodUSec", 100_000), number("CPUQuotaPerSecUSec", 500_000)]
        );
        assert_eq!(limits(&[("cpu.max", "12345")]), [number("CPUQuotaPerSecUSec", 130_000)]);
        assert_eq!(
            limits(&[("cpu.max", "max 50000")]),
            [number("CPUQuotaPeriodUSec", 50_000), number("CPUQuotaPerSecUSec", u64::MAX)]
        );
        assert_eq!(limits(&[("cpu.weight", "100"), ("cpu.idle", "1")]), [number("CPUWeight", 0)]);
        assert_eq!(limits(&[("cpu.weight", "100"), ("cpu.idle", "0")]), [number("CPUWeight", 100)]);
        assert_eq!(limits(&[("cpuset.cpus", "0-3,9")]), [("AllowedCPUs".to_string(), Value::Bytes(vec![0x0f, 0x02]))]);
        assert_eq!(limits(&[("memory.max", "5"), ("memory.max", "6")]), [number("MemoryMax", 6)]);
    }

    #[test]
    fn limits_of_devices() {
        let rates = |name: &str, rates: &[(&str, u64)]| {
            let rates = rates.iter().map(|(device, rate)| (format!("/dev/block/{device}"), *rate)).collect();
            (name.to_string(), Value::Rates(rates))
        };
        assert_eq!(
            limits(&[("io.max", "8:0 rbps=1 wiops=max"), ("io.max", "8:16 rbps=2"), ("io.max", "8:0 rbps=3 riops=4 wbps=5")]),
            [
                rates("IOReadBandwidthMax", &[("8:16", 2), ("8:0", 3)]),
                rates("IOWriteIOPSMax", &[("8:0", u64::MAX)]),
                rates("IOReadIOPSMax", &[("8:0", 4)]),
                rates("IOWriteBandwidthMax", &[("8:0", 5)]),
            ]
        );
        let number = |name: &str, value| (name.to_string(), Value::U64(value));
        assert_eq!(limits(&[("io.weight", "200")]), [number("IOWeight", 200)]);
        assert_eq!(limits(&[("io.weight", "default 300")]), [number("IOWeight", 300)]);
        // systemd writes 500 there for that, and 10 and 100 for 10 and 100.
        for (weight, io) in [("500", 4500), ("10", 10), ("100", 100), ("1000", 10_000)] {
            assert_eq!(limits(&[("io.bfq.weight", weight)]), [number("IOWeight", io)]);
        }
        assert_eq!(limits(&[("io.bfq.weight", "8:0 1000")]), [rates("IODeviceWeight", &[("8:0", 10_000)])]);
        // The kernel's to refuse, or not systemd's to know.
        assert_eq!(limits(&[("io.max", "8:0 nonsense"), ("io.weight", "a b c"), ("hugetlb.2MB.max", "1")]), []);
    }

    #[test]
    fn what_was_before_is_said_as_far_as_it_can_be() {
        let values =
            [("pids.max", "max"), ("cpuset.cpus", ""), ("memory.max", "garbage"), ("cpu.idle", "0"), ("cpu.weight", "59")];
        let values: Vec<CgroupWrite> = values.iter().map(|(file, value)| write(file, value)).collect();
        let found: Vec<(String, Value)> = of_values(&values).into_iter().map(|found| (found.name, found.value)).collect();
        let want = [("TasksMax", Value::U64(u64::MAX)), ("AllowedCPUs", Value::Bytes(vec![])), ("CPUWeight", Value::U64(59))];
        assert_eq!(found, want.map(|(name, value)| (name.to_string(), value)));
    }

    #[test]
    fn limits_that_are_none() {
        for (file, value) in [
            ("memory.max", "5G"),
            ("cpu.max", ""),
            ("cpu.max", "1 0"),
            ("cpu.max", "1 2 3"),
            ("cpuset.cpus", "3-1"),
            ("cpuset.cpus", "all"),
            ("cpuset.mems", "0-99999999"),
        ] {
            let problems = of_limits(&[write(file, value)]).unwrap_err();
            assert_eq!(problems[0].at, format!("at {file}"), "{value}");
        }
    }

    fn of(path: &str, annotations: &[(&str, &str)]) -> Result<Vec<Property>, Vec<Problem>> {
        let annotations = annotations.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        unit(&Systemd::parse(path, "box", false).unwrap(), &[], &annotations)
    }

    fn value<'a>(properties: &'a [Property], name: &str) -> Option<&'a Value> {
        properties.iter().find(|property| property.name == name).map(|property| &property.value)
    }

    #[test]
    fn scopes_and_slices() {
        let scope = of("a.slice:p:n", &[("other", "x")]).unwrap();
        assert_eq!(value(&scope, "Slice"), Some(&Value::Text("a.slice".into())));
        assert_eq!(value(&scope, "Delegate"), Some(&Value::Bool(true)));
        assert_eq!(value(&scope, "DefaultDependencies"), Some(&Value::Bool(false)));
        let slice = of("a.slice:p:b.slice", &[]).unwrap();
        assert_eq!(value(&slice, "Wants"), Some(&Value::Texts(vec!["a.slice".into()])));
        assert_eq!((value(&slice, "Slice"), value(&slice, "Delegate")), (None, None));
    }

    #[test]
    fn annotations_set_what_is_allowed() {
        let properties = of(
            "",
            &[
                ("org.systemd.property.TimeoutStopUSec", "uint64 123456789"),
                ("org.systemd.property.RuntimeMaxSec", "1.5"),
                ("org.systemd.property.CollectMode", "'inactive'"),
                ("org.systemd.property.After", "['a.service']"),
            ],
        )
        .unwrap();
        assert_eq!(value(&properties, "TimeoutStopUSec"), Some(&Value::U64(123_456_789)));
        assert_eq!(value(&properties, "RuntimeMaxUSec"), Some(&Value::U64(1_500_000)));
        assert_eq!(value(&properties, "CollectMode"), Some(&Value::Text("inactive".into())));
        assert_eq!(properties.iter().filter(|property| property.name == "CollectMode").count(), 1);
        assert_eq!(value(&properties, "After"), Some(&Value::Texts(vec!["a.service".into()])));
    }

    #[test]
    fn annotations_set_nothing_else() {
        for (name, text) in [
            ("FailureAction", "'reboot-force'"),
            ("SuccessAction", "'poweroff'"),
            ("OnFailure", "['x.service']"),
            ("Wants", "['x.service']"),
            ("Requires", "['x.service']"),
            ("BindsTo", "['x.service']"),
            ("Slice", "'-.slice'"),
            ("PIDs", "[uint32 1]"),
            ("Delegate", "false"),
            ("Controller", "'x'"),
            ("DevicePolicy", "'auto'"),
            ("ExecStart", "'x'"),
            ("User", "'root'"),
            ("", "true"),
            ("TimeoutStopSec", "'x'"),
            ("TimeoutStopSec", "-1"),
            ("MemoryMax", "uint64"),
        ] {
            let problems = of("", &[(&format!("{PREFIX}{name}"), text)]).unwrap_err();
            assert_eq!((problems.len(), problems[0].at.clone()), (1, format!("annotations[\"{PREFIX}{name}\"]")), "{name}");
        }
    }
}
