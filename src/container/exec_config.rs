// SPDX-License-Identifier: Apache-2.0
//! What `exec` needs of the configuration, made ready by `create`, which has all of it at hand: a part of the [journal](super::journal).
//!
//! The saved config.json is mostly names of system calls: to read them, and to compile the same filter again, would take longer than all
//! else that `exec` does, the command that a node runs most often. It says nothing that config.json does not say: where there is none (a
//! restored container), or none that can be read, that is used instead.
//!
//! One line of JSON, then the instructions of the filter as they are: as numbers or digits they would take longer to read than all the rest.

use serde::{Deserialize, Serialize};

use super::journal::{self, Part};
use super::store::Entry;
use crate::error::{Error, Kind, Result};
use crate::linux::types::SockFilter;
use crate::plan::Plan;
use crate::plan::exec::Filter;
use crate::plan::step::{Op, SeccompLoad};
use crate::spec::load;
use crate::spec::types::{IdMapping, MemoryPolicy, Namespace, Personality, Process, Spec};
use crate::spec::write::to_line;

/// Behind the JSON, which holds none; then the filter.
const END: u8 = b'\n';

/// The version of the file's shape, and of what the filter in it means: others are not read.
const VERSION: u32 = 1;

#[derive(Deserialize)]
struct Saved {
    version: u32,
    /// Of config.json only what [`crate::plan::exec`] looks at.
    spec: Spec,
    seccomp: Option<Seccomp>,
}

/// The same to be written.
#[derive(Serialize)]
struct Saving<'a> {
    version: u32,
    spec: SavingSpec<'a>,
    seccomp: Option<Seccomp>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SavingSpec<'a> {
    oci_version: &'a str,
    process: Option<&'a Process>,
    linux: Option<SavingLinux<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SavingLinux<'a> {
    namespaces: &'a [Namespace],
    uid_mappings: &'a [IdMapping],
    gid_mappings: &'a [IdMapping],
    #[serde(skip_serializing_if = "Option::is_none")]
    personality: Option<&'a Personality>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_policy: Option<&'a MemoryPolicy>,
}

/// What most take, without the filter.
const ROOM: usize = 2048;

/// A [`SeccompLoad`].
#[derive(Serialize, Deserialize)]
struct Seccomp {
    flags: u64,
    listener: Option<(String, String)>,
    /// How many instructions follow.
    instructions: usize,
}

/// The size of an instruction: struct sock_filter.
const SIZE: usize = 8;

fn to_bytes(insn: &SockFilter) -> [u8; SIZE] {
    let ([c, d], [k, l, m, n]) = (insn.code.to_le_bytes(), insn.k.to_le_bytes());
    [c, d, insn.jt, insn.jf, k, l, m, n]
}

fn from_bytes([c, d, jt, jf, k, l, m, n]: [u8; SIZE]) -> SockFilter {
    SockFilter { code: u16::from_le_bytes([c, d]), jt, jf, k: u32::from_le_bytes([k, l, m, n]) }
}

/// Makes it.
pub fn make(spec: &Spec, plan: &Plan) -> Result<Vec<u8>> {
    let filter = plan.child.iter().find_map(|step| match &step.op {
        Op::Seccomp(load) => Some(load),
        _ => None,
    });
    encode(spec, filter)
}

fn encode(spec: &Spec, filter: Option<&SeccompLoad>) -> Result<Vec<u8>> {
    let linux = spec.linux.as_deref().map(|linux| SavingLinux {
        namespaces: &linux.namespaces,
        uid_mappings: &linux.uid_mappings,
        gid_mappings: &linux.gid_mappings,
        personality: linux.personality.as_ref(),
        memory_policy: linux.memory_policy.as_ref(),
    });
    let saving = Saving {
        version: VERSION,
        spec: SavingSpec { oci_version: &spec.oci_version, process: spec.process.as_deref(), linux },
        seccomp: filter.map(|load| Seccomp {
            flags: load.flags,
            listener: load.listener.clone(),
            instructions: load.filter.len(),
        }),
    };
    let instructions = filter.map_or(&[][..], |load| &load.filter[..]);
    let mut bytes = to_line(&saving, ROOM + instructions.len() * SIZE)
        .map_err(|error| Error::new(Kind::State, format!("cannot write what exec needs: {error}")))?;
    bytes.push(END);
    instructions.iter().for_each(|insn| bytes.extend_from_slice(&to_bytes(insn)));
    Ok(bytes)
}

/// Reads it, where there is one that can be read.
pub fn load(entry: &Entry) -> Option<(Spec, Filter)> {
    decode(&journal::read(entry, Part::Exec).ok()??)
}

fn decode(bytes: &[u8]) -> Option<(Spec, Filter)> {
    let (json, rest) = bytes.split_at(bytes.iter().position(|byte| *byte == END)?);
    let saved: Saved = load::json(json).ok().filter(|saved: &Saved| saved.version == VERSION)?;
    let (instructions, cut) = rest[1..].as_chunks::<SIZE>();
    // It is whole, or it is not there.
    let expected = saved.seccomp.as_ref().map_or(0, |seccomp| seccomp.instructions);
    if instructions.len() != expected || !cut.is_empty() {
        return None;
    }
    let filter = saved.seccomp.map(|seccomp| SeccompLoad {
        filter: instructions.iter().copied().map(from_bytes).collect(),
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
    use crate::spec::types::{Process, User};
    use crate::spec::validate::process_in;

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
            let Some(process) = spec.process.as_deref().map(|process| Process { terminal: false, ..process.clone() }) else {
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
            // Of no user namespace.
            let stranger = Process { user: User { uid: u32::MAX - 1, ..process.user.clone() }, ..process };
            assert_eq!(process_in(&stranger, &spec), process_in(&stranger, &small), "{name}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_not_there() {
        assert!(decode(b"").is_none() && decode(b"{}").is_none());
        let text = String::from_utf8(encode(&Spec::default(), None).unwrap()).unwrap();
        assert_eq!(decode(text.as_bytes()), Some((Spec::default(), Filter::Saved(None))));
        let other = format!("\"version\":{}", VERSION - 1);
        assert!(decode(text.replace(&format!("\"version\":{VERSION}"), &other).as_bytes()).is_none());
    }

    #[test]
    fn a_filter_is_whole_or_not_there() {
        let filter =
            vec![SockFilter { code: 0x15, jt: 255, jf: 1, k: u32::MAX }, SockFilter { code: 6, jt: 0, jf: 0, k: 0x0a0a_0a0a }];
        let load = SeccompLoad { filter, flags: 2, listener: Some(("/s".into(), "\n".into())) };
        let bytes = encode(&Spec::default(), Some(&load)).unwrap();
        assert_eq!(decode(&bytes), Some((Spec::default(), Filter::Saved(Some(load)))));
        assert!((0..bytes.len()).all(|end| decode(&bytes[..end]).is_none()));
        assert_eq!(decode(&[&bytes[..], b"\0"].concat()), None);
    }
}
