// SPDX-License-Identifier: Apache-2.0
//! `linux.intelRdt` → the resctrl group of the container (config-linux.md, "IntelRdt"; Documentation/filesystems/resctrl.rst). Carried
//! out by `crate::rdt`.

use crate::spec::types::IntelRdt;

/// A resctrl group, and what is written to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resctrl {
    /// Its directory right below the resctrl file system.
    pub group: String,
    /// It is the configuration's (`closID`) and may be shared: it is not removed at delete. Else it is the container's own.
    pub named: bool,
    /// The lines for its `schemata`; none leaves that alone.
    pub schemata: Vec<String>,
    /// The monitoring group of the container below it.
    pub monitoring: Option<String>,
}

/// The group of a container.
pub fn plan(rdt: &IntelRdt, id: &str) -> Resctrl {
    let named = !rdt.clos_id.is_empty();
    let group = if named { rdt.clos_id.clone() } else { id.to_string() };
    Resctrl { group, named, schemata: schemata(rdt), monitoring: rdt.enable_monitoring.then(|| id.to_string()) }
}

/// All lines in one list: the cache's, without those about memory bandwidth where that has a line of its own, then that line, then
/// those of `schemata`, which so have the last word.
fn schemata(rdt: &IntelRdt) -> Vec<String> {
    let bandwidth = |line: &str| line.trim_start().starts_with("MB:");
    let cache = rdt.l3_cache_schema.lines().filter(|line| rdt.mem_bw_schema.is_empty() || !bandwidth(line));
    let lines = cache.chain(rdt.mem_bw_schema.lines()).chain(rdt.schemata.iter().map(String::as_str));
    lines.map(str::trim).filter(|line| !line.is_empty()).map(String::from).collect()
}

/// The first of the `wanted` lines that a group with this `schemata` file does not have already: one whose resource is missing there, or
/// a domain of it (`0=ff`), or whose value is another. Values are compared as the kernel writes them, so masks as numbers.
pub fn first_difference<'a>(wanted: &'a [String], file: &str) -> Option<&'a str> {
    let parse = |line: &str| -> Option<(String, Vec<(String, String)>)> {
        let (resource, domains) = line.split_once(':')?;
        let domain = |text: &str| text.split_once('=').map(|(id, value)| (id.trim().to_string(), value_of(value)));
        Some((resource.trim().to_string(), domains.split(';').filter_map(domain).collect()))
    };
    let there: Vec<_> = file.lines().filter_map(parse).collect();
    // Of several lines about one domain the last one counts.
    let stands = |resource: &str, id: &str, value: &str| {
        let mut lists = there.iter().filter(|(name, _)| name == resource).flat_map(|(_, domains)| domains);
        lists.any(|(other, current)| other == id && current == value)
    };
    let later = |index: usize, resource: &str, id: &str| {
        wanted[index + 1..]
            .iter()
            .filter_map(|line| parse(line))
            .any(|(name, domains)| name == resource && domains.iter().any(|one| one.0 == id))
    };
    let differs = |(index, line): &(usize, &'a String)| match parse(line) {
        None => true,
        Some((resource, domains)) => {
            domains.iter().any(|(id, value)| !later(*index, &resource, id) && !stands(&resource, id, value))
        }
    };
    wanted.iter().enumerate().find(differs).map(|(_, line)| line.as_str())
}

/// A mask or percentage without spaces and leading zeroes.
fn value_of(text: &str) -> String {
    let text = text.trim().trim_start_matches('0').to_ascii_lowercase();
    if text.is_empty() { "0".to_string() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rdt(clos: &str, l3: &str, mb: &str, schemata: &[&str], monitoring: bool) -> IntelRdt {
        let schemata = schemata.iter().map(|line| line.to_string()).collect();
        IntelRdt {
            clos_id: clos.into(),
            schemata,
            l3_cache_schema: l3.into(),
            mem_bw_schema: mb.into(),
            enable_monitoring: monitoring,
        }
    }

    #[test]
    fn the_group_is_the_configurations_or_the_containers() {
        assert_eq!(
            plan(&rdt("", "", "", &[], false), "c1"),
            Resctrl { group: "c1".into(), named: false, schemata: vec![], monitoring: None }
        );
        let named = plan(&rdt("gold", "", "", &[], true), "c1");
        assert_eq!((named.group.as_str(), named.named, named.monitoring.as_deref()), ("gold", true, Some("c1")));
    }

    #[test]
    fn lines_are_put_together_as_the_specification_says() {
        let lines = |l3: &str, mb: &str, more: &[&str]| plan(&rdt("", l3, mb, more, false), "c").schemata;
        assert_eq!(lines("L3:0=ff\nMB:0=50", "", &[]), ["L3:0=ff", "MB:0=50"], "its own MB: line counts where there is no other");
        assert_eq!(lines("L3:0=ff\nMB:0=50\n", "MB:0=20", &[]), ["L3:0=ff", "MB:0=20"]);
        assert_eq!(lines("L3:0=ff", "MB:0=20", &["L2:0=f", "MB:0=70"]), ["L3:0=ff", "MB:0=20", "L2:0=f", "MB:0=70"]);
        assert_eq!(lines("", "", &[]), Vec::<String>::new());
    }

    #[test]
    fn a_group_that_is_there_must_be_as_wanted() {
        let file = "    MB:0=100;1= 50\n    L3:0=fff;1=0f\n";
        let differs = |lines: &[&str]| {
            let lines: Vec<String> = lines.iter().map(|line| line.to_string()).collect();
            first_difference(&lines, file).map(String::from)
        };
        assert_eq!(differs(&["L3:0=fff;1=f", "MB:1=50"]), None);
        assert_eq!(differs(&["L3:0=0FFF"]), None);
        assert_eq!(differs(&["MB:0=100", "L3:1=ff"]).as_deref(), Some("L3:1=ff"));
        assert_eq!(differs(&["L3:7=f"]).as_deref(), Some("L3:7=f"));
        assert_eq!(differs(&["L2:0=f"]).as_deref(), Some("L2:0=f"));
        assert_eq!(differs(&["nonsense"]).as_deref(), Some("nonsense"));
        assert_eq!(differs(&["MB:0=20", "MB:0=100"]), None, "the last word counts");
    }
}
