// SPDX-License-Identifier: Apache-2.0
//! Finding the program inside the container, and saying why it cannot be executed. Called by `init` after the change of root and user, so
//! plain paths are the container's own and judged with its rights.
//!
//! The texts are runc's, word for word: Docker, Podman and others tell "not found" (exit status 127) from "may not be executed" (126) by
//! them. What comes first in a message is theirs; our own explanations follow as a hint.

use nix::fcntl::{AT_FDCWD, AtFlags, OFlag};
use nix::unistd::{AccessFlags, faccessat};

use crate::error::{Code, Error, Kind};
use crate::linux::call::errno_text;
use crate::linux::fd;
use crate::linux::types::Errno;

/// How much of a program's head is looked at for its interpreter.
pub const HEAD: usize = 4096;

/// The path to execute for `name`: itself where it has a slash, else what PATH of `env` leads to. The error is the part of the message
/// after `exec: "NAME": `.
pub fn find(name: &str, env: &[String]) -> Result<String, String> {
    if name.contains('/') {
        return executable(name).map(|()| name.to_string());
    }
    let path = env.iter().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or_default();
    let directories = path.split(':').filter(|_| !path.is_empty() && !name.is_empty());
    for directory in directories {
        // An empty entry means the working directory (environ(7)).
        let candidate =
            if directory.is_empty() { format!("./{name}") } else { format!("{}/{name}", directory.trim_end_matches('/')) };
        if executable(&candidate).is_err() {
            continue;
        }
        // Whoever can write to the working directory could choose the program.
        if !candidate.starts_with('/') {
            return Err("cannot run executable found relative to current directory".into());
        }
        return Ok(candidate);
    }
    Err("executable file not found in $PATH".into())
}

/// Whether execve(2) would take the file, as far as can be told without trying.
#[allow(clippy::disallowed_methods, reason = "only to say early what execve(2) would say: that judges again, by itself")]
fn executable(path: &str) -> Result<(), String> {
    let stat = fd::stat_path(path).map_err(|error| format!("stat {path}: {}", errno_text(error.errno)))?;
    if stat.is_dir() {
        return Err(errno_text(Errno::EISDIR));
    }
    match faccessat(AT_FDCWD, path, AccessFlags::X_OK, AtFlags::AT_EACCESS) {
        Ok(()) => Ok(()),
        // A seccomp filter of an outer container may not know the call: then the mode must do, as it must for Go's lookup.
        Err(Errno::ENOSYS | Errno::EPERM) if stat.mode & 0o111 != 0 => Ok(()),
        Err(Errno::ENOSYS | Errno::EPERM) => Err(errno_text(Errno::EACCES)),
        Err(errno) => Err(errno_text(errno)),
    }
}

/// The error of a program that is not there, with runc's words around it. `joining` is for exec, where there is no container to be
/// initialised.
pub fn not_found(name: &str, why: &str, joining: bool) -> Error {
    let during = if joining { "" } else { "error during container init: " };
    let cause = match why {
        why if why == errno_text(Errno::EACCES) || why == errno_text(Errno::EISDIR) => Code::ProgramPermission,
        why if why.starts_with("executable file") || why.starts_with("stat ") => Code::ProgramNotFound,
        _ => Code::Program,
    };
    let text = format!("unable to start container process: {during}exec: \"{name}\": {why}");
    let error = Error::new(Kind::Program, text).cause(cause);
    if why.starts_with("executable file") && name.contains(' ') {
        return error.hint("args[0] is the program alone: each argument is an element of its own");
    }
    if why == errno_text(Errno::EACCES) && is_noexec(name) {
        return error.cause(Code::NoExec).hint(format!("{name} is on a mount with the option noexec"));
    }
    error
}

/// Whether the file lies on a mount from which nothing may be executed.
fn is_noexec(path: &str) -> bool {
    let found = fd::open(path, OFlag::O_PATH).and_then(|handle| fd::statfs(&handle));
    found.is_ok_and(|found| found.flags & libc::ST_NOEXEC != 0)
}

/// The error of an execve(2) that failed.
pub fn not_executed(path: &str, errno: Errno) -> Error {
    // Its cause follows, where the file can be read: see `explain`.
    Error::new(Kind::Program, format!("unable to start container process: exec {path}: {}", errno_text(errno)))
        .cause(if errno == Errno::ENOEXEC { Code::ExecFormat } else { Code::Program })
}

/// What may explain that execve(2) of an existing program failed. Reads the program's head.
pub fn explain(path: &str, errno: Errno) -> Option<(Code, String)> {
    if errno == Errno::EACCES && is_noexec(path) {
        return Some((Code::NoExec, format!("{path} is on a mount with the option noexec")));
    }
    let file = fd::open(path, OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY).ok()?;
    fd::require_regular(&file).ok()?;
    let mut head = [0; HEAD];
    let length = nix::sys::uio::pread(&file, &mut head, 0).ok()?;
    let head = &head[..length];
    match errno {
        Errno::ENOENT | Errno::EACCES | Errno::ELIBBAD => {
            interpreter(head).and_then(|found| missing(path, &found)).map(|hint| (Code::Interpreter, hint))
        }
        Errno::ENOEXEC if head.is_empty() => Some((Code::ExecFormat, format!("{path} is empty"))),
        Errno::ENOEXEC => match machine(head) {
            Some(other) => Some((Code::Architecture, format!("{path} is for another machine ({})", machine_name(other)))),
            None => Some((Code::ExecFormat, format!("{path} is no program of this machine, and has no #! line"))),
        },
        _ => None,
    }
}

/// What is wrong with a program's interpreter, if anything.
fn missing(path: &str, interpreter: &str) -> Option<String> {
    let why = executable(interpreter).err()?;
    // The reason in words that cannot be mistaken for the program's own.
    let why = if why.starts_with("stat ") { "is missing in the container" } else { "may not be executed" };
    Some(format!("its interpreter {interpreter} {why}; {path} itself was found"))
}

/// The interpreter that a `#!` line or an ELF header names.
pub fn interpreter(head: &[u8]) -> Option<String> {
    if let Some(line) = head.strip_prefix(b"#!") {
        let line = line.split(|byte| *byte == b'\n').next()?;
        let word = line.trim_ascii().split(u8::is_ascii_whitespace).next().filter(|word| !word.is_empty())?;
        return String::from_utf8(word.to_vec()).ok();
    }
    elf_interpreter(head)
}

/// PT_INTERP of a 64-bit little-endian ELF file (elf(5)), where it lies within the head.
fn elf_interpreter(head: &[u8]) -> Option<String> {
    const PT_INTERP: u32 = 3;
    if !head.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let u16_at = |at: usize| Some(u16::from_le_bytes(*head.get(at..)?.first_chunk()?));
    let u32_at = |at: usize| Some(u32::from_le_bytes(*head.get(at..)?.first_chunk()?));
    let u64_at = |at: usize| usize::try_from(u64::from_le_bytes(*head.get(at..)?.first_chunk()?)).ok();
    let (table, size, count) = (u64_at(0x20)?, usize::from(u16_at(0x36)?), usize::from(u16_at(0x38)?));
    for index in 0..count {
        let entry = table.checked_add(index.checked_mul(size)?)?;
        if u32_at(entry)? == PT_INTERP {
            let (start, length) = (u64_at(entry.checked_add(8)?)?, u64_at(entry.checked_add(0x20)?)?);
            let name = head.get(start..start.checked_add(length)?)?;
            return String::from_utf8(name.strip_suffix(b"\0")?.to_vec()).ok();
        }
    }
    None
}

/// Machines as `uname -m` calls them, for numbers of elf(5).
fn machine_name(number: u16) -> String {
    let name = match number {
        3 => "i386",
        8 => "mips",
        20 => "ppc",
        21 => "ppc64",
        22 => "s390x",
        40 => "arm",
        62 => "x86_64",
        183 => "aarch64",
        243 => "riscv64",
        258 => "loongarch64",
        _ => return format!("ELF machine number {number}"),
    };
    format!("{name}, ELF machine number {number}")
}

/// The machine that an ELF file is for, where that is not this one.
pub fn foreign_machine(head: &[u8]) -> Option<String> {
    machine(head).map(machine_name)
}

/// The machine number of an ELF file that is for another machine than this program's own.
fn machine(head: &[u8]) -> Option<u16> {
    const OWN: u16 = if cfg!(target_arch = "x86_64") {
        62
    } else if cfg!(target_arch = "aarch64") {
        183
    } else {
        0
    };
    let found = u16::from_le_bytes(*head.strip_prefix(b"\x7fELF")?.get(14..)?.first_chunk()?);
    (OWN != 0 && found != OWN).then_some(found)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::linux::fd::tests::Scratch;

    fn file(dir: &Scratch, name: &str, bytes: &[u8], mode: u32) -> String {
        let path = format!("{}/{name}", dir.path().display());
        std::fs::write(&path, bytes).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn searches_path_as_runc_does() {
        let dir = Scratch::new();
        let path = file(&dir, "prog", b"", 0o755);
        file(&dir, "data", b"", 0o644);
        let env = [format!("PATH=/nowhere::relative:{}/", dir.path().display())];
        assert_eq!(find("prog", &env), Ok(path));
        for (name, env) in [("data", &env[..]), ("absent", &env), ("", &env), ("prog", &["PATH=".into()]), ("prog", &[])] {
            assert_eq!(find(name, env), Err("executable file not found in $PATH".into()), "{name}");
        }
        // Tests run in the package's directory.
        assert_eq!(find("test", &["PATH=hack".into()]), Err("cannot run executable found relative to current directory".into()));
    }

    #[test]
    fn the_words_are_runcs() {
        let dir = Scratch::new();
        let data = file(&dir, "data", b"", 0o644);
        assert_eq!(find("/no/such", &[]), Err("stat /no/such: no such file or directory".into()));
        assert_eq!(find("/", &[]), Err("is a directory".into()));
        assert_eq!(find(&data, &[]), Err("permission denied".into()));
        assert_eq!(find(&format!("{data}/x"), &[]), Err(format!("stat {data}/x: not a directory")));
        assert_eq!(find("/bin/sh", &[]), Ok("/bin/sh".into()));
        let text = not_found("no", "executable file not found in $PATH", false).to_string();
        assert_eq!(
            text,
            "unable to start container process: error during container init: exec: \"no\": executable file not found in $PATH"
        );
        let text = not_found("/P", "is a directory", true).to_string();
        assert_eq!(text, "unable to start container process: exec: \"/P\": is a directory");
    }

    #[test]
    fn a_mount_without_execution_is_named() {
        if crate::linux::cred::ids().1 != 0 {
            eprintln!("skipped: needs root");
            return;
        }
        let dir = Scratch::new();
        crate::linux::test_child::in_child(|| {
            use crate::linux::{clone, mount, types::Namespaces, types::Propagation};
            clone::unshare(Namespaces::MOUNT).unwrap();
            mount::set_propagation("/", Propagation::Private, true).unwrap();
            let noexec = mount::new_mount("tmpfs", [("mode", Some("755"))], 0x8).unwrap();
            mount::move_mount(&noexec, fd::open_dir_path(dir.path()).unwrap()).unwrap();
            let path = file(&dir, "prog", b"#!/bin/sh\n", 0o755);
            let why = find(&path, &[]).unwrap_err();
            assert_eq!(why, "permission denied");
            let text = not_found(&path, &why, true).to_string();
            assert!(text.ends_with(&format!("permission denied; hint: {path} is on a mount with the option noexec")), "{text}");
        });
    }

    #[test]
    fn explains_a_missing_interpreter() {
        let dir = Scratch::new();
        let script = file(&dir, "script", b"#! /no/python -u\nprint()\n", 0o755);
        assert_eq!(
            explain(&script, Errno::ENOENT),
            Some((
                Code::Interpreter,
                format!("its interpreter /no/python is missing in the container; {script} itself was found")
            ))
        );
        let fine = file(&dir, "fine", b"#!/bin/sh\n", 0o755);
        assert_eq!(explain(&fine, Errno::ENOENT), None);
        let bare = file(&dir, "bare", b"echo\n", 0o755);
        assert!(
            explain(&bare, Errno::ENOEXEC).is_some_and(|(cause, hint)| cause == Code::ExecFormat && hint.contains("no #! line"))
        );
        let empty = file(&dir, "empty", b"", 0o755);
        assert_eq!(explain(&empty, Errno::ENOEXEC), Some((Code::ExecFormat, format!("{empty} is empty"))));
        let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
        elf.resize(64, 0);
        elf[18] = 243;
        let foreign = file(&dir, "foreign", &elf, 0o755);
        assert!(
            explain(&foreign, Errno::ENOEXEC)
                .is_some_and(|(cause, hint)| cause == Code::Architecture && hint.contains("riscv64"))
        );
    }

    #[test]
    fn reads_the_interpreter_of_an_elf_file_and_survives_bad_ones() {
        let own = std::fs::read("/bin/sh").unwrap();
        let found = elf_interpreter(&own[..HEAD]);
        assert!(found.as_deref().is_some_and(|path| path.contains("/ld")), "{found:?}");
        for cut in 0..HEAD.min(800) {
            let _ = elf_interpreter(&own[..cut]);
        }
        let mut wild = own[..HEAD].to_vec();
        for at in 0..0x40 {
            let keep = std::mem::replace(&mut wild[at], 0xff);
            let _ = elf_interpreter(&wild);
            wild[at] = keep;
        }
    }
}
