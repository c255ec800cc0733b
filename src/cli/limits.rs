// SPDX-License-Identifier: Apache-2.0
//! From the flags of `update` to limits; and Go's way to write a duration, for `events`.

use std::collections::BTreeMap;
use std::time::Duration;

use super::given::Given;
use crate::container::bundle;
use crate::container::plug::Plug;
use crate::container::update::Change;
use crate::error::{Error, Kind, Result};
use crate::linux::fd;
use crate::spec::load;
use crate::spec::types::{BlockIo, Cpu, IntelRdt, Memory, Pids, Resources};

/// What `update` is asked: of the cgroup the file alone where one is given, as runc has it, else the flags.
pub fn read(args: &Given) -> Result<Change> {
    let rdt = rdt(args);
    let devices = args.all("device").iter().map(|text| device(text)).collect::<Result<Vec<Plug>>>()?;
    match args.text("resources").filter(|path| !path.is_empty()) {
        Some(path) => {
            let bytes = contents(path)?;
            let source = if path == "-" { "stdin" } else { path };
            let resources = load::parse_resources(&bytes).map_err(|problems| bundle::refused(source, problems))?;
            Ok(Change { resources, rdt, source: source.to_string(), devices })
        }
        None => Ok(Change { resources: flags(args)?, rdt, source: "update".to_string(), devices }),
    }
}

/// What is asked of the resctrl group, if anything.
fn rdt(args: &Given) -> Option<IntelRdt> {
    let line = |name: &str| args.text(name).unwrap_or_default().to_string();
    let rdt = IntelRdt {
        l3_cache_schema: line("l3-cache-schema"),
        mem_bw_schema: line("mem-bw-schema"),
        schemata: args.all("rdt-schemata").to_vec(),
        ..IntelRdt::default()
    };
    (rdt != IntelRdt::default()).then_some(rdt)
}

fn contents(path: &str) -> Result<Vec<u8>> {
    let source = if path == "-" { "stdin" } else { path };
    let cannot =
        |error: &dyn std::fmt::Display| Error::new(Kind::Usage, format!("cannot read the limits from {source}: {error}"));
    let bytes = match path {
        "-" => fd::read_bounded(std::io::stdin(), bundle::CONFIG_MAX),
        path => fd::open_given(path).and_then(|file| fd::read_given(file, bundle::CONFIG_MAX)),
    };
    bytes.map_err(|error| cannot(&error))
}

fn flags(args: &Given) -> Result<Resources> {
    let given = |name: &str| args.text(name).filter(|text| !text.is_empty());
    let size = |name: &str| given(name).map(|text| bytes(name, text)).transpose();
    let signed = |name: &str| given(name).map(|text| integer::<i64>(name, text)).transpose();
    let unsigned = |name: &str| given(name).map(|text| integer::<u64>(name, text)).transpose();
    let list = |name: &str| given(name).unwrap_or_default().to_string();
    let memory = Memory {
        limit: size("memory")?,
        reservation: size("memory-reservation")?,
        swap: size("memory-swap")?,
        ..Memory::default()
    };
    let cpu = Cpu {
        shares: unsigned("cpu-share")?,
        quota: signed("cpu-quota")?,
        burst: unsigned("cpu-burst")?,
        period: unsigned("cpu-period")?,
        realtime_runtime: signed("cpu-rt-runtime")?,
        realtime_period: unsigned("cpu-rt-period")?,
        cpus: list("cpuset-cpus"),
        mems: list("cpuset-mems"),
        idle: signed("cpu-idle")?,
    };
    let weight = given("blkio-weight").map(|text| integer::<u16>("blkio-weight", text)).transpose()?;
    let pids = signed("pids-limit")?;
    // Read, so that a mistake in them is told, and then ignored as the kernel would.
    let _ = (size("kernel-memory")?, size("kernel-memory-tcp")?);
    Ok(Resources {
        memory: Some(memory).filter(|memory| *memory != Memory::default()),
        cpu: Some(cpu).filter(|cpu| *cpu != Cpu::default()),
        pids: pids.map(|limit| Pids { limit: Some(limit) }),
        block_io: weight.map(|weight| BlockIo { weight: Some(weight), ..BlockIo::default() }),
        unified: unified(args)?,
        ..Resources::default()
    })
}

/// Files of cgroup2 that the specification has no field for: those that many want by name, and any other as `--unified FILE=VALUE`.
fn unified(args: &Given) -> Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    for word in args.all("unified") {
        let (file, value) =
            word.split_once('=').ok_or_else(|| invalid("unified", word).hint("FILE=VALUE, as in memory.high=64M"))?;
        files.insert(file.to_string(), value.to_string());
    }
    for (flag, file) in [("memory-high", "memory.high"), ("memory-low", "memory.low"), ("memory-min", "memory.min")] {
        if let Some(size) = args.text(flag).filter(|text| !text.is_empty()) {
            let size = bytes(flag, size)?;
            files.insert(file.to_string(), if size < 0 { "max".to_string() } else { size.to_string() });
        }
    }
    match args.text("memory-oom-group") {
        None | Some("") => {}
        Some(value @ ("0" | "1")) => drop(files.insert("memory.oom.group".to_string(), value.to_string())),
        Some(other) => return Err(invalid("memory-oom-group", other).hint("0 or 1")),
    }
    Ok(files)
}

/// `PATH[:PATH-INSIDE][:ACCESS]`, as Docker and Podman write it.
fn device(text: &str) -> Result<Plug> {
    let wrong = || invalid("device", text).hint("PATH[:PATH-INSIDE][:ACCESS], such as /dev/fuse or /dev/sdb:/dev/disk:r");
    let words: Vec<&str> = text.split(':').collect();
    let (host, inside, access) = match words[..] {
        [host] => (host, host, "rwm"),
        [host, inside] if inside.starts_with('/') => (host, inside, "rwm"),
        [host, access] => (host, host, access),
        [host, inside, access] => (host, inside, access),
        _ => return Err(wrong()),
    };
    let place =
        |path: &str| path.starts_with('/') && path.len() > 1 && !path.ends_with('/') && !path.split('/').any(|part| part == "..");
    if !place(host) || !place(inside) || access.is_empty() || access.contains(|letter| !"rwm".contains(letter)) {
        return Err(wrong());
    }
    Ok(Plug { host: host.to_string(), inside: inside.to_string(), access: access.to_string() })
}

fn integer<T: std::str::FromStr>(name: &str, text: &str) -> Result<T> {
    text.parse().map_err(|_| invalid(name, text).hint("a whole number within the kernel's limits"))
}

/// A size: `512m`, `1.5GiB`, bytes without a unit, -1 for no limit. Units are powers of 1024, as Docker has them.
fn bytes(name: &str, text: &str) -> Result<i64> {
    if text == "-1" {
        return Ok(-1);
    }
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        "p" | "pb" | "pib" => 50,
        _ => return Err(invalid(name, text).hint("a size such as 512m or 2g")),
    };
    let whole = number.parse::<i64>().ok().and_then(|number| number.checked_mul(1 << shift));
    let broken =
        || number.parse::<f64>().ok().map(|number| number * (1i64 << shift) as f64).filter(|size| *size < i64::MAX as f64);
    whole.or_else(|| broken().map(|size| size as i64)).ok_or_else(|| invalid(name, text).hint("a size such as 512m or 2g"))
}

fn invalid(name: &str, text: &str) -> Error {
    Error::new(Kind::Usage, format!("invalid value for --{name}: \"{}\"", text.escape_debug()))
}

/// `events --pressure`: a share of time, in percent.
pub fn pressure(args: &Given) -> Result<Option<u32>> {
    let Some(word) = args.text("pressure").filter(|word| !word.is_empty()) else { return Ok(None) };
    match word.trim_end_matches('%').parse::<u32>() {
        Ok(percent @ 1..=100) => Ok(Some(percent)),
        _ => Err(invalid("pressure", word).hint("a share of time from 1 to 100 percent")),
    }
}

/// A duration as Go writes it: `5s`, `100ms`, `1m30s`, `1.5h`; more than nothing.
pub fn duration(text: &str) -> Result<Duration> {
    let wrong = || invalid("interval", text).hint("a duration such as 5s, 100ms or 1m30s, of more than 0");
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let (number, after) = rest.split_at(digits);
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let length = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(wrong()),
        };
        seconds += number.parse::<f64>().map_err(|_| wrong())? * length;
        rest = after;
    }
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let read = |text: &str| bytes("memory", text).ok();
        assert_eq!(read("512m"), Some(512 << 20));
        assert_eq!(read("1.5g"), Some(3 << 29));
        assert_eq!(read("2GiB"), Some(2 << 30));
        assert_eq!(read("4096"), Some(4096));
        assert_eq!(read("-1"), Some(-1));
        for bad in ["", "m", "-2", "1x", "1..5m", "9999999p"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn devices() {
        let read = |text: &str| device(text).ok().map(|plug| format!("{} {} {}", plug.host, plug.inside, plug.access));
        assert_eq!(read("/dev/fuse").as_deref(), Some("/dev/fuse /dev/fuse rwm"));
        assert_eq!(read("/dev/fuse:rw").as_deref(), Some("/dev/fuse /dev/fuse rw"));
        assert_eq!(read("/dev/sdb:/dev/disk").as_deref(), Some("/dev/sdb /dev/disk rwm"));
        assert_eq!(read("/dev/sdb:/dev/disk:r").as_deref(), Some("/dev/sdb /dev/disk r"));
        for bad in ["", "fuse", "/dev/fuse:", "/dev/fuse:x", "/dev/a:b:r", "/dev/a:/../x", "/dev/a:/b:r:w", "/:/"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn durations() {
        let read = |text: &str| duration(text).ok().map(|duration| duration.as_millis());
        assert_eq!(read("5s"), Some(5000));
        assert_eq!(read("100ms"), Some(100));
        assert_eq!(read("1m30s"), Some(90_000));
        assert_eq!(read("1.5s"), Some(1500));
        for bad in ["", "5", "s", "0s", "-1s", "5 s", "1d"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
