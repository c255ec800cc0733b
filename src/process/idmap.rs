// SPDX-License-Identifier: Apache-2.0
//! Id mappings of a new user namespace (user_namespaces(7)): written by the runtime where its capabilities allow, else by newuidmap(1)
//! and newgidmap(1), which know what /etc/subuid and /etc/subgid grant. Called by `spawn`.

use std::time::Duration;

use crate::error::{Code, Error, Kind, Result, Told};
use crate::linux::call::errno_text;
use crate::linux::pid::Exit;
use crate::linux::proc::Procfs;
use crate::linux::types::{Errno, IdRange};
use crate::plan::{IdMap, Spawn};
use crate::process::auxiliary::{End, Program};

/// How long newuidmap(1) may take; it may ask a directory service (subid(5)).
const PROGRAM_TIMEOUT: Duration = Duration::from_secs(30);

/// Maps the ids of the process `pid`, a child of ours that nobody has waited for.
pub fn write(pid: i32, spawn: &Spawn) -> Result<()> {
    let Some(map) = &spawn.id_map else { return Ok(()) };
    let proc = Procfs::host().told(|| "cannot map the ids of the user namespace".into())?;
    if spawn.deny_setgroups {
        // Before gid_map, or the kernel refuses that to whoever has no CAP_SETGID outside.
        proc.write(&format!("{pid}/setgroups"), b"deny").told(|| "cannot deny setgroups to the user namespace".into())?;
    }
    match &spawn.id_map_programs {
        Some((newuidmap, newgidmap)) => {
            run(newuidmap, pid, &map.uids, "linux.uidMappings")?;
            run(newgidmap, pid, &map.gids, "linux.gidMappings")
        }
        None => write_files(&proc, pid, map),
    }
}

fn write_files(proc: &Procfs, pid: i32, map: &IdMap) -> Result<()> {
    for (file, ranges, at) in [("uid_map", &map.uids, "linux.uidMappings"), ("gid_map", &map.gids, "linux.gidMappings")] {
        let lines: String = ranges.iter().map(|range| format!("{} {} {}\n", range.inside, range.outside, range.count)).collect();
        let wrote = proc.write(&format!("{pid}/{file}"), lines.as_bytes());
        wrote.told(|| format!("cannot write {file} of the user namespace")).map_err(|error| advise(error).at(at))?;
    }
    Ok(())
}

fn advise(error: Error) -> Error {
    match error.errno {
        Some(Errno::EPERM) => error
            .cause(Code::IdMap)
            .hint("ids outside of the runtime's own need CAP_SETUID and CAP_SETGID, or newuidmap and newgidmap"),
        Some(Errno::EINVAL) => error.cause(Code::IdMap).hint("do ranges overlap, or are there more than 340?"),
        _ => error,
    }
}

/// `newuidmap PID INSIDE OUTSIDE COUNT …`
fn run(program: &str, pid: i32, ranges: &[IdRange], at: &str) -> Result<()> {
    let mut args = vec![program.to_string(), pid.to_string()];
    args.extend(ranges.iter().flat_map(|range| [range.inside, range.outside, range.count]).map(|number| number.to_string()));
    let env = [];
    let left = Program {
        path: program,
        args: &args,
        env: Some(&env),
        directory: None,
        input: b"",
        outputs: [None, None],
        timeout: Some(PROGRAM_TIMEOUT),
        interrupt: None,
    }
    .run()?;
    let why = match left.end {
        End::Exited(Exit::Code(0)) => return Ok(()),
        End::Exited(exit) => format!("{exit}: {}", left.stderr),
        End::NotStarted(errno) => errno_text(errno),
        End::Interrupted => "it was interrupted".to_string(),
        End::TimedOut => format!("it ran longer than {} s", PROGRAM_TIMEOUT.as_secs()),
    };
    let error = Error::new(Kind::Kernel, format!("cannot map ids with {program}: {why}")).at(at);
    Err(error.cause(Code::SubIds).hint("are the ranges granted in /etc/subuid and /etc/subgid?"))
}
