// SPDX-License-Identifier: Apache-2.0
//! What CRIU's log says of a failure: its answer is a number, the reasons are in the log. Called by the rest of this folder.

use std::os::fd::OwnedFd;

use super::message::{self, Response};
use crate::error::{Error, Kind};
use crate::linux::call::errno_text;
use crate::linux::fd::{self, OFlag};
use crate::linux::types::Errno;
use crate::plan::criu::Options;

/// How much of the end of the log is read.
const TAIL: u64 = 256 << 10;
/// How many lines are told, and how long one may be.
const LINES: usize = 5;
const LINE_MAX: usize = 240;
/// Errors that CRIU goes on after, or that follow from its own end: where root may not raise limits, where it looks which iptables there are,
/// and when its helper for cgroups loses it.
const HARMLESS: [&str; 5] = [
    "rlimit: Can't setup RLIMIT_NOFILE for self",
    "execvp(\"iptables",
    "execvp(\"ip6tables",
    " -V failed",
    "cg: cgroupd: recv req error",
];

/// What CRIU says of a page server that it cannot reach, as if that were none.
const NO_SERVER: &str = "Can't connect to server";

/// The error of a dump or restore that failed; engines show the first line and look for the name of the log.
pub(super) fn explain(
    response: Option<&Response>,
    kind: message::Kind,
    options: &Options,
    (work, path): (&OwnedFd, &str),
    said: &str,
) -> Error {
    let task = match kind {
        message::Kind::Restore => "RESTORE",
        message::Kind::PreDump => "PRE_DUMP",
        _ => "DUMP",
    };
    let errno = response.map_or(0, |response| response.errno);
    let mut text = format!("criu failed: type {task} errno {errno}");
    if errno > 0 {
        text.push_str(&format!(" ({})", errno_text(Errno::from_raw(errno))));
    }
    let mut lines = read_tail(work, &options.log_file).map(|log| errors(&log)).unwrap_or_default();
    if lines.is_empty() {
        // CRIU's own choice is the first error, which often is none.
        lines.extend(response.map(|response| response.message.trim().replace('\n', "; ")).filter(|said| !said.is_empty()));
    }
    if lines.is_empty() && !said.is_empty() {
        // Before it has a log it speaks to its standard error.
        lines.push(said.to_string());
    }
    if !lines.is_empty() {
        text.push_str(&format!(": {}", lines.join("; ")));
    }
    let error = Error::new(Kind::Peer, format!("{text} (log file: {path}/{})", options.log_file));
    match advice(&lines) {
        Some(advice) => error.hint(advice),
        None => error,
    }
}

/// A log of our own request, but in a directory that the caller named: a regular file, or none.
fn read_tail(work: &OwnedFd, name: &str) -> Option<String> {
    let file = fd::openat(work, name, OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK, 0).ok()?;
    fd::require_regular(&file).ok()?;
    let size = fd::stat(&file).ok()?.size;
    let start = i64::try_from(size.saturating_sub(TAIL)).ok()?;
    nix::unistd::lseek(&file, start, nix::unistd::Whence::SeekSet).ok()?;
    // CRIU has ended: nobody writes any more.
    let bytes = fd::read_bounded(&file, 2 * TAIL as usize).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The last error lines, without their times. Once is enough for a line; one that says nothing of the failure is left out where there are
/// others.
fn errors(log: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for line in log.lines() {
        let Some(at) = line.find("Error (").or_else(|| line.find(NO_SERVER)) else { continue };
        let short = short(&line[at..]);
        if !found.contains(&short) {
            found.push(short);
        }
    }
    let tells = |line: &String| !HARMLESS.iter().any(|part| line.contains(part));
    if found.iter().any(tells) {
        found.retain(tells);
    }
    let first = found.len().saturating_sub(LINES);
    found.split_off(first)
}

fn short(line: &str) -> String {
    line.trim().chars().filter(|c| !c.is_control()).take(LINE_MAX).collect()
}

/// The last lines of what a program has said.
pub(super) fn shortened(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(short).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(LINES)..].join("; ")
}

/// What to do about the failures that users meet most.
fn advice(lines: &[String]) -> Option<&'static str> {
    let rules = [
        ("Connected TCP socket", "--tcp-established keeps TCP connections"),
        ("Some file locks are hold", "--file-locks keeps file locks"),
        ("file locks", "--file-locks keeps file locks"),
        ("iptables-restore", "CRIU uses iptables to hold packets back: install it, or choose --network-lock nftables or skip"),
        ("External socket is used", "--ext-unix-sk keeps unix sockets that lead out of the container"),
        ("In-flight connection", "--tcp-skip-in-flight leaves out connections that are being made"),
        ("Use link-remap option", "--link-remap keeps files that have been deleted and have another name"),
        (
            "img: Permission denied",
            "in a user namespace CRIU reads the image as the container's root: let that user search the directories of the image and its parent",
        ),
        ("has bad size", "a file that was open, as one that was a standard stream, has to be as long as it was at the dump"),
        ("Can't get rlimit", "to read the limits of a process of another user CRIU needs CAP_SYS_RESOURCE"),
        (
            "Tracking memory is not available",
            "this kernel does not tell which memory has changed (CONFIG_MEM_SOFT_DIRTY): --pre-dump and --parent-path need that",
        ),
        (
            "page-pipe: splice",
            "to serve lazy pages CRIU needs pipes of 4 MiB: CAP_SYS_RESOURCE, or `sysctl fs.pipe-max-size=4194304` where root has none",
        ),
        (
            "lazy-pages.socket failed",
            "`criu lazy-pages` is to be started before the restore, with --work-path as its --work-dir and --image-path as its --images-dir",
        ),
        ("uffd: Failed sending restore finished", "`criu lazy-pages` has ended before the restore did: its own log says why"),
        (NO_SERVER, "nobody listens there: `criu page-server` is to be started before the dump"),
        ("No mapping for", "the bundle's config.json has to have every mount of the host that the container had"),
        ("path=/dev/pts/", "--shell-job keeps the terminal that the container shares with its caller"),
        ("dangling", "--shell-job keeps the terminal that the container shares with its caller"),
        ("Found dev", "--shell-job keeps the terminal that the container shares with its caller"),
    ];
    rules.into_iter().find(|(part, _)| lines.iter().any(|line| line.contains(part))).map(|(_, advice)| advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_errors_are_told() {
        let log = "(00.1) Error (a.c:1): first\n(00.2) fine\n(00.2) Error (a.c:1): first\n";
        assert_eq!(errors(log), ["Error (a.c:1): first"]);
        let many: String = (0..20).map(|n| format!("(00.{n}) Error (b.c:{n}): {}\n", "x".repeat(1000))).collect();
        let told = errors(&many);
        assert_eq!(told.len(), LINES);
        let noise =
            "Error (u.c:1): execvp(\"iptables-restore\", ...) failed: No such\nError (u.c:2): iptables-restore -V failed\n";
        assert_eq!(errors(&format!("{noise}Error (a.c:1): no\n{noise}")), ["Error (a.c:1): no"]);
        assert_eq!(errors(noise).len(), 2, "better than nothing");
        assert_eq!(errors("(00.1) Can't connect to server ::1:9\n"), ["Can't connect to server ::1:9"]);
        assert_eq!(shortened("\n one\u{7}\n\ntwo\n"), "one; two");
        assert!(told[LINES - 1].starts_with("Error (b.c:19)") && told.iter().all(|line| line.len() <= LINE_MAX));
    }

    #[test]
    fn the_text_names_the_log_and_what_to_do() {
        let dir = std::env::temp_dir().join(format!("berth-criu-log-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("dump.log"), "(00.01) Error (criu/sk-inet.c:188): inet: Connected TCP socket, consider using\n")
            .unwrap();
        let options = Options { log_file: "dump.log".into(), ..Options::default() };
        let work = fd::open_dir(&dir).unwrap();
        let text = explain(Some(&Response::default()), message::Kind::Dump, &options, (&work, "/w"), "").to_string();
        assert_eq!(
            text,
            "criu failed: type DUMP errno 0: Error (criu/sk-inet.c:188): inet: Connected TCP socket, consider using \
             (log file: /w/dump.log); hint: --tcp-established keeps TCP connections"
        );
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
