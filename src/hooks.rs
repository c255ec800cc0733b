// SPDX-License-Identifier: Apache-2.0
//! Hooks: programs that run at points of a container's lifecycle (config.md, "POSIX-platform Hooks"; runtime.md, "State").
//!
//! Called by `container` for prestart, createRuntime, poststart and poststop, and by `process::init` for createContainer and
//! startContainer. A hook gets the state as JSON on its standard input and exactly the environment that the configuration gives it: the
//! container's own, which the image chooses, never reaches it (CVE-2025-23266). What it prints is shown when it fails, unless
//! the configuration names a file for it (`plan::hook_output`).

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use serde::Serialize;

use crate::error::{Code, Error, Kind, Result, Told};
use crate::linux::call::errno_text;
use crate::linux::fd;
use crate::linux::pid::Exit;
use crate::linux::signal;
use crate::linux::types::Errno;
use crate::plan::process::last_of_each_name;
use crate::plan::{Hook, HookOutput, hook_output};
use crate::process::auxiliary::{End, Program};
use crate::trace;

/// What a hook is told about its container (runtime.md, "State").
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HookState {
    /// The version of the specification.
    pub oci_version: String,
    /// The container's id.
    pub id: String,
    /// `creating`, `created`, `running` or `stopped`.
    pub status: String,
    /// The container's process, as whoever runs the hook sees it; 0 when there is none.
    pub pid: i32,
    /// The bundle's directory, absolute.
    pub bundle: String,
    /// The root filesystem, absolute. Not in the specification; NVIDIA's hook and others look for it.
    pub root: String,
    /// The configuration's annotations.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl HookState {
    /// As JSON.
    pub fn json(&self) -> Vec<u8> {
        // Text and numbers only: there is nothing in it that could fail to be written.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// What hooks print to instead of our pipes, open.
#[derive(Debug, Default)]
pub struct Output {
    /// Their standard output.
    pub stdout: Option<OwnedFd>,
    /// Their standard error.
    pub stderr: Option<OwnedFd>,
}

impl Output {
    /// Opens the files on the host, to append to them; what is missing is made, for its owner alone (with the mode that crun gives it).
    /// Never waits: a FIFO that nobody reads is an error.
    pub fn open(files: &HookOutput) -> Result<Output> {
        let open = |path: &Option<String>, name: &str| path.as_deref().map(|path| open_one(path, name)).transpose();
        Ok(Output { stdout: open(&files.stdout, hook_output::STDOUT)?, stderr: open(&files.stderr, hook_output::STDERR)? })
    }
}

fn open_one(path: &str, name: &str) -> Result<OwnedFd> {
    let opened = fd::open_to_append(path, 0o700).told(|| format!("cannot open {path} for what hooks print"));
    opened.map_err(|error| match error.errno {
        Some(Errno::ENXIO) => error.at(hook_output::at(name)).hint("nobody reads that FIFO, or it is a socket"),
        _ => error.at(hook_output::at(name)),
    })
}

/// Runs hooks of one kind in order; the first that fails ends it. What they print goes to `output`, in the directory where this process is.
pub fn run_all(hooks: &[Hook], state: &HookState, output: &Output) -> Result<()> {
    let json = state.json();
    hooks.iter().try_for_each(|hook| run_with(hook, &json, None, None, output))
}

/// As [`run_all`], on the host: `directory` is where they run, none means where this process is; each opens what it prints to. The hook
/// that runs when `interrupt` becomes readable is killed and is the error.
pub fn run_all_unless(
    hooks: &[Hook],
    state: &HookState,
    directory: Option<&str>,
    interrupt: Option<BorrowedFd<'_>>,
) -> Result<()> {
    let json = state.json();
    hooks.iter().try_for_each(|hook| run_with(hook, &json, directory, interrupt, &Output::open(&hook.output)?))
}

/// Runs one hook with `state` on its standard input and what it prints in `output`.
pub fn run(hook: &Hook, state: &[u8], output: &Output) -> Result<()> {
    run_with(hook, state, None, None, output)
}

fn run_with(
    hook: &Hook,
    state: &[u8],
    directory: Option<&str>,
    interrupt: Option<BorrowedFd<'_>>,
    output: &Output,
) -> Result<()> {
    let _span = trace::span(|| format!("{} {}", name(hook), hook.path));
    // Engines put their own PATH after the one they inherited and mean the later one, but getenv(3) finds the first.
    let env = hook.env.clone().map(last_of_each_name);
    let program = Program {
        path: &hook.path,
        args: &hook.args,
        env: env.as_deref(),
        directory,
        input: state,
        outputs: [&output.stdout, &output.stderr].map(|file| file.as_ref().map(AsFd::as_fd)),
        timeout: hook.timeout_s.map(Duration::from_secs),
        interrupt,
    };
    let left = program.run()?;
    let in_file = |file: &Option<String>| file.as_ref().map(|path| format!("in {path}"));
    let shown = || {
        let stdout = in_file(&hook.output.stdout).filter(|_| output.stdout.is_some());
        let stderr = in_file(&hook.output.stderr).filter(|_| output.stderr.is_some());
        format!("stdout: {}, stderr: {}", stdout.as_ref().unwrap_or(&left.stdout), stderr.as_ref().unwrap_or(&left.stderr))
    };
    let mut cause = Code::Hook;
    let why = match left.end {
        End::Exited(Exit::Code(0)) => return Ok(()),
        End::Exited(Exit::Signal(number)) => format!("killed by {}, {}", signal::name(number), shown()),
        End::Exited(exit) => format!("{exit}, {}", shown()),
        End::NotStarted(errno) => format!("cannot start \"{}\": {}", hook.path, errno_text(errno)),
        End::Interrupted => format!("the command was interrupted by a signal, and the hook killed, {}", shown()),
        End::TimedOut => {
            cause = Code::HookTimeout;
            let limit = hook.timeout_s.unwrap_or_default();
            format!("it ran longer than its timeout of {limit} s and was killed, {}", shown())
        }
    };
    Err(Error::new(Kind::Hook, format!("error running {}: {why}", name(hook))).cause(cause).at(hook.at.as_str()))
}

/// `createRuntime hook #1`, from `hooks.createRuntime[1]`.
fn name(hook: &Hook) -> String {
    let place = hook.at.strip_prefix("hooks.").and_then(|rest| rest.strip_suffix(']')).and_then(|rest| rest.split_once('['));
    place.map_or_else(|| format!("hook \"{}\"", hook.path), |(kind, index)| format!("{kind} hook #{index}"))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::linux::test_child::in_child;

    fn hook(script: &str) -> Hook {
        let args = ["sh", "-c", script].map(String::from).to_vec();
        let output = HookOutput::default();
        Hook { path: "/bin/sh".into(), args, env: Some(vec![]), timeout_s: Some(20), output, at: "hooks.createRuntime[1]".into() }
    }

    fn failure(hook: &Hook, state: &[u8]) -> String {
        run(hook, state, &Output::default()).unwrap_err().to_string()
    }

    #[test]
    fn gets_the_state_and_a_place_to_run() {
        in_child(|| {
            let state =
                HookState { id: "c1".into(), status: "creating".into(), pid: 42, root: "/r".into(), ..Default::default() };
            let json = String::from_utf8(state.json()).unwrap();
            assert_eq!(json, r#"{"ociVersion":"","id":"c1","status":"creating","pid":42,"bundle":"","root":"/r"}"#);
            let script = format!("read -r line; [ \"$line\" = '{json}' ] && [ \"$PWD\" = /proc ] && [ \"$0\" = name ]");
            let mut hook = hook(&script);
            hook.args.push("name".into());
            run_all_unless(&[hook], &state, Some("/proc"), None).unwrap();
        });
    }

    #[test]
    fn the_environment_is_the_given_one_and_the_last_of_a_name_wins() {
        in_child(|| {
            let mut hook = hook("[ \"$A\" = 2 ] && [ -z \"$HOME\" ]");
            hook.env = Some(["A=1", "A=2", "=x", "novalue"].map(String::from).to_vec());
            run(&hook, b"", &Output::default()).unwrap();
            let mut inherits = self::hook("[ -n \"$CARGO_MANIFEST_DIR$PATH\" ]");
            inherits.env = None;
            run(&inherits, b"", &Output::default()).unwrap();
        });
    }

    #[test]
    fn a_failure_shows_status_and_output() {
        in_child(|| {
            let text = failure(&hook("echo one; echo two; echo bad >&2; exit 3"), b"");
            assert_eq!(
                text,
                "error running createRuntime hook #1: exit status 3, stdout: one\\ntwo, stderr: bad (hooks.createRuntime[1])"
            );
            let text = failure(&hook("kill -9 $$"), b"");
            assert!(text.contains("killed by SIGKILL"), "{text}");
            let text = failure(&hook("yes | head -c 1000000; echo end; exit 1"), b"");
            assert!(text.contains("y\\nend,") && text.len() < 10_000, "{} bytes", text.len());
        });
    }

    #[test]
    fn a_missing_program_is_named() {
        in_child(|| {
            let hook = Hook { path: "/no/such".into(), args: vec!["x".into()], ..hook("") };
            assert_eq!(
                failure(&hook, b""),
                "error running createRuntime hook #1: cannot start \"/no/such\": no such file or directory (hooks.createRuntime[1])"
            );
        });
    }

    #[test]
    fn what_it_prints_is_appended_to_files() {
        in_child(|| {
            let place = crate::linux::fd::tests::Scratch::new();
            let path = |name: &str| place.path().join(name).to_str().unwrap().to_string();
            std::fs::write(place.path().join("out"), "before\n").unwrap();
            let output = HookOutput { stdout: Some(path("out")), stderr: Some(path("err")) };
            let printing = |script: &str| Hook { output: output.clone(), ..hook(script) };
            let hooks = [printing("echo one; echo bad >&2"), printing("echo two"), printing("echo three; exit 3")];
            let text = run_all_unless(&hooks, &HookState::default(), None, None).unwrap_err().to_string();
            let shown = format!("exit status 3, stdout: in {}, stderr: in {}", path("out"), path("err"));
            assert!(text.contains(&shown), "{text}");
            let read = |name: &str| std::fs::read_to_string(place.path().join(name)).unwrap();
            assert_eq!((read("out").as_str(), read("err").as_str()), ("before\none\ntwo\nthree\n", "bad\n"));
            // One of the two alone: the other is shown as ever.
            let half = Hook { output: HookOutput { stderr: None, ..output.clone() }, ..hook("echo here >&2; exit 1") };
            let text = run_all_unless(&[half], &HookState::default(), None, None).unwrap_err().to_string();
            assert!(text.contains("stderr: here"), "{text}");
        });
    }

    #[test]
    fn files_that_cannot_be_opened_are_named() {
        in_child(|| {
            let place = crate::linux::fd::tests::Scratch::new();
            let path = |name: &str| place.path().join(name).to_str().unwrap().to_string();
            nix::unistd::mkfifo(place.path().join("fifo").as_path(), nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
            for (file, words) in [
                (path("fifo"), "nobody reads that FIFO"),
                (path("none/file"), "no such file or directory"),
                (path(""), "is a directory"),
            ] {
                let files = HookOutput { stderr: Some(file.clone()), stdout: None };
                let text = Output::open(&files).unwrap_err().to_string();
                assert!(text.contains(&format!("cannot open {file} for what hooks print")) && text.contains(words), "{text}");
                assert!(text.contains("annotations[\"run.oci.hooks.stderr\"]"), "{text}");
            }
        });
    }

    #[test]
    fn may_leave_its_input_unread() {
        in_child(|| {
            run(&hook("exit 0"), &vec![b'x'; 1 << 20], &Output::default()).unwrap();
            run(&hook("exec <&-; sleep 0.1"), &vec![b'x'; 1 << 20], &Output::default()).unwrap();
        });
    }

    #[test]
    fn the_timeout_kills_the_whole_group() {
        in_child(|| {
            let mut slow = hook("sleep 300 & echo $!; wait");
            slow.timeout_s = Some(1);
            let start = Instant::now();
            let text = failure(&slow, b"");
            assert!(text.contains("longer than its timeout of 1 s and was killed, stdout: "), "{text}");
            assert!(start.elapsed() >= Duration::from_secs(1) && start.elapsed() < Duration::from_secs(10));
            let pid: u32 = text.split("stdout: ").nth(1).unwrap().split(',').next().unwrap().parse().unwrap();
            // Its new parent may not have taken it away yet, but it runs no more.
            let end = Instant::now() + Duration::from_secs(5);
            while std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z")) {
                assert!(Instant::now() < end, "{pid} is still there");
                std::thread::sleep(Duration::from_millis(10));
            }
        });
    }

    #[test]
    fn a_daemon_that_keeps_the_pipes_is_not_waited_for() {
        in_child(|| {
            let start = Instant::now();
            run(&hook("sleep 5 & echo started"), b"", &Output::default()).unwrap();
            assert!(start.elapsed() < Duration::from_secs(4));
        });
    }
}
