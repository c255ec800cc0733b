// SPDX-License-Identifier: Apache-2.0
//! `exec.json`: what `exec` needs of the configuration, made ready by `create`, which has all of it at hand.
//!
//! The saved config.json is mostly names of system calls: to read them, and to compile the same filter again, would take longer than all
//! else that `exec` does, the command that a node runs most often. The file says nothing that config.json does not say: where there is
//! none (a restored container), or none that can be read, that is used instead.

use serde::{Deserialize, Serialize};

use super::store::Entry;
use crate::error::{Error, Kind, Result};
use crate::linux::types::SockFilter;
use crate::plan::Plan;
use crate::plan::exec::Filter;
use crate::plan::step::{Op, SeccompLoad};
use crate::spec::load;
use crate::spec::types::{Linux, Spec};

/// The file's name.
pub const FILE: &str = "exec.json";

/// The version of the file's shape, and of what the filter in it means: others are not read.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Saved {
    version: u32,
    /// Of config.json only what [`crate::plan::exec`] looks at.
    spec: Spec,
    seccomp: Option<Seccomp>,
}

/// A [`SeccompLoad`].
#[derive(Serialize, Deserialize)]
struct Seccomp {
    flags: u64,
    listener: Option<(String, String)>,
    /// An instruction each: code, jt, jf and k from the lowest bits on.
    filter: Vec<u64>,
}

fn to_number(insn: &SockFilter) -> u64 {
    u64::from(insn.code) | u64::from(insn.jt) << 16 | u64::from(insn.jf) << 24 | u64::from(insn.k) << 32
}

fn from_number(number: u64) -> SockFilter {
    SockFilter { code: number as u16, jt: (number >> 16) as u8, jf: (number >> 24) as u8, k: (number >> 32) as u32 }
}

/// Saves it, before the journal: from then on it counts.
pub fn save(entry: &Entry, spec: &Spec, plan: &Plan) -> Result<()> {
    let filter = plan.child.iter().find_map(|step| match &step.op {
        Op::Seccomp(load) => Some(load),
        _ => None,
    });
    entry.create(FILE, &encode(spec, filter)?)
}

fn encode(spec: &Spec, filter: Option<&SeccompLoad>) -> Result<Vec<u8>> {
    let namespaces = spec.linux.as_ref().map(|linux| linux.namespaces.clone());
    let saved = Saved {
        version: VERSION,
        spec: Spec {
            oci_version: spec.oci_version.clone(),
            process: spec.process.clone(),
            linux: namespaces.map(|namespaces| Linux { namespaces, ..Linux::default() }),
            ..Spec::default()
        },
        seccomp: filter.map(|load| Seccomp {
            flags: load.flags,
            listener: load.listener.clone(),
            filter: load.filter.iter().map(to_number).collect(),
        }),
    };
    serde_json::to_vec(&saved).map_err(|error| Error::new(Kind::State, format!("cannot write {FILE}: {error}")))
}

/// Reads it, where there is one that can be read.
pub fn load(entry: &Entry) -> Option<(Spec, Filter)> {
    decode(&entry.read_if_any(FILE).ok()??)
}

fn decode(bytes: &[u8]) -> Option<(Spec, Filter)> {
    let saved: Saved = load::json(bytes).ok().filter(|saved: &Saved| saved.version == VERSION)?;
    let filter = saved.seccomp.map(|seccomp| SeccompLoad {
        filter: seccomp.filter.into_iter().map(from_number).collect(),
        flags: seccomp.flags,
        listener: seccomp.listener,
    });
    Some((saved.spec, Filter::Saved(filter)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::exec::{Entered, ExecRequest, exec};
    use crate::plan::{Host, seccomp_profile};
    use crate::spec::fixtures;
    use crate::spec::types::Process;

    fn entered(filter: Filter) -> Entered {
        Entered { id: "x".into(), namespaces: crate::linux::types::Namespaces::PID, filter, ..Entered::default() }
    }

    /// Whatever container it is, exec decides the same from either file.
    #[test]
    fn it_says_what_the_configuration_says() {
        let host = Host { apparmor: true, selinux: true, ..Host::example() };
        for (name, _) in fixtures::ALL {
            let spec = fixtures::spec(name);
            let Ok(filter) = seccomp_profile::load(&spec, &mut Vec::new()) else { continue };
            let Some(process) = spec.process.as_ref().map(|process| Process { terminal: false, ..process.clone() }) else {
                continue;
            };
            let (small, saved) = decode(&encode(&spec, filter.as_ref()).unwrap()).unwrap();
            assert_eq!(saved, Filter::Saved(filter));
            let plan = |spec: &Spec, filter| exec(spec, &process, &ExecRequest::default(), &entered(filter), &host);
            let (mut one, mut other) = (plan(&spec, Filter::FromConfig), plan(&small, saved));
            // What is wrong with a profile has been told at create.
            for plan in [&mut one, &mut other].into_iter().flatten() {
                plan.warnings.clear();
            }
            assert_eq!(one, other, "{name}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_not_there() {
        assert!(decode(b"").is_none() && decode(b"{}").is_none());
        let text = String::from_utf8(encode(&Spec::default(), None).unwrap()).unwrap();
        assert_eq!(decode(text.as_bytes()), Some((Spec::default(), Filter::Saved(None))));
        assert!(decode(text.replace("\"version\":1", "\"version\":2").as_bytes()).is_none());
    }
}
