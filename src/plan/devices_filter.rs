// SPDX-License-Identifier: Apache-2.0
//! Device access rules compiled to one eBPF program (config-linux.md, "Allowed Device list"; BPF_PROG_TYPE_CGROUP_DEVICE).
//!
//! Called by [`super::resources`]; the program is loaded and attached by `crate::cgroup::devices`. What the rules mean: each access
//! (read, write, mknod) to a device is decided by the last rule that names both, and refused where none does; a request for several
//! accesses at once is granted when each of them is. The tests hold the program, run by an interpreter, against that sentence.
//!
//! The rules are first folded into a table by device number, so the program's length depends on how many different answers there are and
//! not on how many rules: Docker's default is some fifty instructions.

mod program;

use crate::linux::types::NodeKind;
use crate::spec::Problem;
use crate::spec::types::DeviceRule;

/// Accesses as bits: `BPF_DEVCG_ACC_*` of linux/bpf.h.
pub mod access {
    /// mknod(2).
    pub const MKNOD: u8 = 1;
    /// Opening for reading.
    pub const READ: u8 = 2;
    /// Opening for writing.
    pub const WRITE: u8 = 4;
    /// All of them.
    pub const ALL: u8 = 7;
}

/// One rule, understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Allow, or else deny.
    pub allow: bool,
    /// Character or block devices; none for both.
    pub kind: Option<NodeKind>,
    /// None for all.
    pub major: Option<u32>,
    /// None for all.
    pub minor: Option<u32>,
    /// Bits of [`access`].
    pub access: u8,
}

/// What every container may do, after all that its configuration says: make any node, and use those that every /dev has. The same as
/// runc, whose users count on it: c 10:200 is /dev/net/tun.
const DEFAULTS: &[Rule] = &[
    allowed(NodeKind::Character, None, None, access::MKNOD),
    allowed(NodeKind::Block, None, None, access::MKNOD),
    allowed(NodeKind::Character, Some(1), Some(3), access::ALL),
    allowed(NodeKind::Character, Some(1), Some(8), access::ALL),
    allowed(NodeKind::Character, Some(1), Some(7), access::ALL),
    allowed(NodeKind::Character, Some(5), Some(0), access::ALL),
    allowed(NodeKind::Character, Some(1), Some(5), access::ALL),
    allowed(NodeKind::Character, Some(1), Some(9), access::ALL),
    allowed(NodeKind::Character, Some(136), None, access::ALL),
    allowed(NodeKind::Character, Some(5), Some(2), access::ALL),
    allowed(NodeKind::Character, Some(10), Some(200), access::ALL),
];

const fn allowed(kind: NodeKind, major: Option<u32>, minor: Option<u32>, access: u8) -> Rule {
    Rule { allow: true, kind: Some(kind), major, minor, access }
}

/// The configuration's rules and after them those that always hold; or everything wrong with the configuration's.
pub fn with_defaults(rules: &[DeviceRule], at: &str) -> Result<Vec<Rule>, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut understood = Vec::with_capacity(rules.len() + DEFAULTS.len());
    for (index, rule) in rules.iter().enumerate() {
        let at = |field: &str| {
            if at.is_empty() { format!("devices[{index}].{field}") } else { format!("{at}.devices[{index}].{field}") }
        };
        match understand(rule, &at) {
            Ok(rule) => understood.push(rule),
            Err(problem) => problems.push(problem),
        }
    }
    understood.extend_from_slice(DEFAULTS);
    if problems.is_empty() { Ok(understood) } else { Err(problems) }
}

/// `at` names a field of it.
fn understand(rule: &DeviceRule, at: &dyn Fn(&str) -> String) -> Result<Rule, Problem> {
    let kind = match rule.kind.as_str() {
        "" | "a" => None,
        "c" | "u" => Some(NodeKind::Character),
        "b" => Some(NodeKind::Block),
        other => return Err(Problem::new(at("type"), format!("{other:?} is none of a, b and c"))),
    };
    let number = |value: Option<i64>, half: &str| match value {
        None | Some(-1) => Ok(None),
        Some(value) => u32::try_from(value)
            .map(Some)
            .map_err(|_| Problem::new(at(half), format!("{value} is neither a device number nor -1 (all)"))),
    };
    let mut access = 0;
    for letter in rule.access.chars() {
        access |= match letter {
            'r' => access::READ,
            'w' => access::WRITE,
            'm' => access::MKNOD,
            _ => {
                return Err(Problem::new(at("access"), format!("{:?} has letters other than r, w and m", rule.access)));
            }
        };
    }
    if access == 0 {
        access = access::ALL;
    }
    Ok(Rule { allow: rule.allow, kind, major: number(rule.major, "major")?, minor: number(rule.minor, "minor")?, access })
}

/// Bits of [`access`] as `rwm`, or what there is of it.
pub fn letters(bits: u8) -> String {
    [(access::READ, 'r'), (access::WRITE, 'w'), (access::MKNOD, 'm')]
        .iter()
        .filter(|(bit, _)| bits & bit != 0)
        .map(|(_, letter)| letter)
        .collect()
}

/// What the rules come to, by device number. Numbers that are not listed have the answer of the level above.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Character devices.
    pub character: Vec<Major>,
    /// Block devices.
    pub block: Vec<Major>,
}

/// The devices of one major number, or (always last, and always there) of all that are not listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Major {
    /// None for all others.
    pub number: Option<u32>,
    /// Minor numbers with an answer of their own: what is granted, as bits of [`access`].
    pub minors: Vec<(u32, u8)>,
    /// What is granted to all others.
    pub others: u8,
}

/// Folds the rules into a table.
pub fn table(rules: &[Rule]) -> Table {
    let of = |kind: NodeKind| {
        let rules: Vec<&Rule> = rules.iter().filter(|rule| rule.kind.is_none_or(|named| named == kind)).collect();
        let last = major(&rules, None);
        let mut numbers: Vec<u32> = rules.iter().filter_map(|rule| rule.major).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let mut majors: Vec<Major> = numbers.into_iter().map(|number| major(&rules, Some(number))).collect();
        majors.retain(|major| major.minors != last.minors || major.others != last.others);
        majors.push(last);
        majors
    };
    Table { character: of(NodeKind::Character), block: of(NodeKind::Block) }
}

fn major(rules: &[&Rule], number: Option<u32>) -> Major {
    // A rule for a single major number says nothing about the majors that no rule names.
    let rules: Vec<&Rule> = rules.iter().copied().filter(|rule| rule.major.is_none() || rule.major == number).collect();
    let granted = |minor: Option<u32>| {
        let mut granted = 0;
        for rule in rules.iter().filter(|rule| rule.minor.is_none() || rule.minor == minor) {
            granted = if rule.allow { granted | rule.access } else { granted & !rule.access };
        }
        granted
    };
    let others = granted(None);
    let mut minors: Vec<u32> = rules.iter().filter_map(|rule| rule.minor).collect();
    minors.sort_unstable();
    minors.dedup();
    let minors =
        minors.into_iter().map(|minor| (minor, granted(Some(minor)))).filter(|(_, granted)| *granted != others).collect();
    Major { number, minors, others }
}

pub use program::program;

#[cfg(test)]
mod tests;
