// SPDX-License-Identifier: Apache-2.0
//! The last steps before the container's program: its working directory, its file, its descriptors, its filter, execve(2). Called by
//! `init`.
//!
//! From the seccomp filter on, every system call of this process is judged by it. So all that can be done before is done before: what is
//! left is execve(2), and what only the configuration asks for: sending a listener's descriptor, dropping the capabilities that loading
//! needed, saying that something failed. A filter must allow execve(2), with a listener sendmsg(2), and without no_new_privs capset(2).

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, RawFd};

use serde::Serialize;

use crate::error::{Code, Error, Kind, Result, Told};
use crate::hooks::{HookState, Output};
use crate::linux::fd::{self, Root};
use crate::linux::types::Errno;
use crate::linux::{clone, mount, sched, seccomp, signal, socket};
use crate::plan::step::SeccompLoad;

use super::{Init, home, identity, program};

/// The first descriptor after the standard streams.
const FIRST: u32 = 3;

/// What is ready for execve(2).
#[derive(Clone, Debug, Default)]
pub(super) struct Last {
    /// The program's file.
    path: String,
    file: CString,
    args: Vec<CString>,
    env: Vec<CString>,
    /// Signals and descriptors are as the program shall have them.
    prepared: bool,
    /// What execve(2) answered.
    refused: Option<Errno>,
}

/// The descriptors that the program is to inherit must be there, as the caller's: a number that is missing would be taken by one of our
/// own, which leads to the host.
pub fn check_inherited(count: u32) -> Result<()> {
    match (0..count).find(|number| !fd::is_inherited((FIRST + number) as RawFd)) {
        Some(number) => Err(Error::new(Kind::Usage, format!("unable to stat preserved-fd {number} (of {count})"))
            .cause(Code::StandardStreams)
            .hint("--preserve-fds and LISTEN_FDS count the open descriptors after the standard streams")),
        None => Ok(()),
    }
}

/// Closes every descriptor but the standard streams, the `inherited` ones after them, and these.
pub(in crate::process) fn close_descriptors(inherited: u32, keep: Vec<RawFd>) -> Result<()> {
    let first = i32::try_from(FIRST + inherited).unwrap_or(i32::MAX);
    fd::close_all_but(first, keep).told(|| "cannot close the runtime's descriptors".into())
}

/// Changes into a directory of the container, and proves that it is one.
pub(super) fn change_directory(path: &str) -> Result<()> {
    mount::chdir_inside(path)
        .told(|| format!("chdir to cwd (\"{path}\") set in config.json failed"))
        .map_err(|error| error.cause(Code::WorkingDirectory))?;
    // A link like /proc/self/fd/7 may have led to a directory of the host (CVE-2024-21626): the kernel knows.
    match mount::getcwd() {
        Ok(_) => Ok(()),
        Err(error) if error.errno == Errno::ENOENT => Err(Error::new(
            Kind::Program,
            "current working directory is outside of container mount namespace root -- possible container breakout detected",
        )
        .cause(Code::Escape)),
        Err(error) => Err(Error::from(error).doing("cannot verify the working directory")),
    }
}

impl Init<'_> {
    /// The working directory, `made` where it is missing if so asked. Where user 0 may not enter it, perhaps the program's user may (a
    /// directory of NFS, or of another user in a user namespace): that is tried when the process has become that user. The other way
    /// round it works too, because here it is still user 0; runc does both.
    pub(super) fn enter_directory(&mut self, path: &str, made: bool) -> Result<()> {
        // This leads nowhere else, whatever the image has.
        if path == "/" {
            return mount::chdir(path).told(|| "cannot change into the root directory".into());
        }
        let answer = match change_directory(path) {
            Err(error) if made && error.errno == Some(Errno::ENOENT) => {
                let root = Root::open("/").told(|| "cannot open the root directory".into())?;
                root.mkdir_all(path, 0o755)
                    .told(|| format!("cannot make the working directory {path}"))
                    .map_err(|error| error.cause(Code::WorkingDirectory))?;
                // Else /proc/self/fd/N would be there after all: this very descriptor.
                drop(root);
                change_directory(path)
            }
            other => other,
        };
        match answer {
            Err(error) if error.errno == Some(Errno::EACCES) && self.identity.is_none() => {
                self.directory = Some(path.to_string());
                Ok(())
            }
            other => other,
        }
    }

    /// Finds the program, and gets everything ready for it that needs memory or files.
    pub(super) fn find_program(&mut self) -> Result<()> {
        let exec = self.work.exec;
        let name = exec.args.first().ok_or_else(|| Error::new(Kind::Config, "there is no program to run").at("process.args"))?;
        let path = program::find(name, &exec.env).map_err(|why| program::not_found(name, &why, self.joining))?;
        let mut env = exec.env.clone();
        if let Some(uid) = exec.home_for_uid {
            env.push(format!("HOME={}", home::of_user(self.rootfs()?.root(), uid)));
        }
        let file = c_string(&path, "process.args[0]")?;
        let args: Vec<_> = exec.args.iter().map(|arg| c_string(arg, "process.args")).collect::<Result<_>>()?;
        let env: Vec<_> = env.iter().map(|entry| c_string(entry, "process.env")).collect::<Result<_>>()?;
        check_size(&args, &env)?;
        self.last = Last { path, file, args, env, ..Last::default() };
        Ok(())
    }

    /// Closes everything that the program shall not have, and that no later step needs. What such a step needs is no directory, no
    /// namespace and no mount: nothing through which a path like /proc/self/fd/7 would lead out of the container.
    pub(super) fn close_descriptors(&mut self, inherited: u32) -> Result<()> {
        // What is closed here must have no owner any more that would close it again.
        if let Some(rootfs) = self.rootfs.take() {
            rootfs.abandon();
        }
        self.proc = None;
        self.console = None;
        self.joins.clear();
        self.trees = Default::default();
        let gate = self.gate.iter().flat_map(|gate| gate.fds().map(|fd| fd.as_raw_fd()));
        let channel = self.channel.iter().map(|channel| channel.as_fd().as_raw_fd());
        let listener = self.listener.iter().map(|listener| listener.as_raw_fd());
        if self.work.hooks.start_container.is_empty() {
            self.hook_output = Output::default();
        }
        let printed = self.hook_output.stdout.iter().chain(&self.hook_output.stderr).map(|file| file.as_raw_fd());
        close_descriptors(inherited, gate.chain(channel).chain(listener).chain(printed).collect())
    }

    /// Signals, descriptors and death are from here on as the program shall have them.
    fn prepare(&mut self) -> Result<()> {
        if self.last.prepared {
            return Ok(());
        }
        if self.bound {
            self.outlive_runtime()?;
            // It may have died at this moment, with no signal to us any more.
            match &self.channel {
                Some(channel) if channel.closed().told(|| "cannot see whether the runtime lives".into())? => clone::exit_now(1),
                _ => {}
            }
        }
        signal::reset_ignored(self.ignored).told(|| "cannot reset the signals".into())?;
        fd::close_range(FIRST + self.work.exec.inherited_fds, true).told(|| "cannot mark the descriptors to be closed".into())?;
        self.last.prepared = true;
        Ok(())
    }

    /// Loads the filter, sends its listener away, drops what only the loading needed.
    pub(super) fn load_seccomp(&mut self, load: &SeccompLoad) -> Result<()> {
        self.prepare()?;
        let told = || "cannot load the seccomp filter".to_string();
        let flags = if load.listener.is_some() { load.flags | seccomp::flag::NEW_LISTENER } else { load.flags };
        let message = load.listener.as_ref().map(|(_, metadata)| self.listener_message(metadata));
        let loaded = seccomp::load(&load.filter, flags).told(told).map_err(|error| error.cause(Code::Seccomp))?;
        if let (Some(listener), Some(message)) = (loaded, message) {
            let socket = self.listener.take();
            let socket = socket.ok_or_else(|| Error::new(Kind::Peer, "there is no connection to the seccomp listener"))?;
            socket::send(&socket, &message, &[listener.as_fd()]).told(|| "cannot send the seccomp listener".into())?;
        }
        self.identity.as_ref().map_or(Ok(()), identity::drop_kept)
    }

    /// What the listener is told (config-linux.md, "The Container Process State").
    fn listener_message(&self, metadata: &str) -> Vec<u8> {
        let status = if self.joining { "running" } else { "created" };
        let state = HookState { status: status.into(), pid: self.pid, ..self.work.state.clone() };
        let process =
            ProcessState { oci_version: &state.oci_version, fds: &["seccompFd"], pid: self.pid, metadata, state: &state };
        // Text and numbers only: there is nothing in it that could fail to be written.
        serde_json::to_vec(&process).unwrap_or_default()
    }

    /// Becomes the program.
    pub(super) fn execute(&mut self) -> Result<()> {
        if self.last.path.is_empty() {
            return Err(Error::new(Kind::Config, "the configuration has no process to start").at("process"));
        }
        self.prepare()?;
        match clone::execve(&self.last.file, &self.last.args, &self.last.env) {
            Ok(never) => match never {},
            Err(error) => {
                self.last.refused = Some(error.errno);
                Err(program::not_executed(&self.last.path, error.errno))
            }
        }
    }

    /// What may explain why execve(2) failed, if it did.
    pub(super) fn explain(&self) -> Option<(Code, String)> {
        program::explain(&self.last.path, self.last.refused?)
    }
}

/// Refuses now what execve(2) would refuse later ("Limits on size of arguments and environment").
fn check_size(args: &[CString], env: &[CString]) -> Result<()> {
    /// MAX_ARG_STRLEN
    const LONGEST: usize = 32 * 4096;
    /// What every program may have, whatever its stack (ARG_MAX).
    const ALWAYS: u64 = 32 * 4096;
    /// Three quarters of the kernel's usual stack.
    const MOST: u64 = 6 << 20;
    const RLIMIT_STACK: u32 = 3;
    let refused = |at: &str, why: String| {
        Error::new(Kind::Program, format!("argument list too long: {why}")).cause(Code::ArgumentsTooLong).at(at)
    };
    for (list, at) in [(args, "process.args"), (env, "process.env")] {
        if let Some(index) = list.iter().position(|text| text.count_bytes() >= LONGEST) {
            return Err(refused(&format!("{at}[{index}]"), format!("one string may have {} bytes", LONGEST - 1)));
        }
    }
    let size: u64 = args.iter().chain(env).map(|text| (text.count_bytes() + 1 + size_of::<usize>()) as u64).sum();
    if size <= ALWAYS {
        return Ok(());
    }
    let (stack, _) = sched::limit(0, RLIMIT_STACK).told(|| "cannot read RLIMIT_STACK".into())?;
    let most = (stack / 4).clamp(ALWAYS, MOST);
    if size <= most { Ok(()) } else { Err(refused("process.args", format!("{size} bytes with the environment, of {most}"))) }
}

/// `ContainerProcessState` of config-linux.md.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ProcessState<'a> {
    oci_version: &'a str,
    fds: &'a [&'a str],
    pid: i32,
    #[serde(skip_serializing_if = "str::is_empty")]
    metadata: &'a str,
    state: &'a HookState,
}

fn c_string(text: &str, at: &str) -> Result<CString> {
    CString::new(text).map_err(|_| Error::new(Kind::Config, "a string for the program has a NUL byte in it").at(at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::test_child::in_child;

    fn strings(count: usize, length: usize) -> Vec<CString> {
        vec![CString::new(vec![b'x'; length]).unwrap(); count]
    }

    /// What the kernel says to the same lists.
    fn kernel_takes(args: &[CString], env: &[CString]) -> bool {
        use crate::linux::clone::{CloneArgs, Cloned, clone3, execve, exit_now};
        match clone3(&CloneArgs::default()).unwrap() {
            Cloned::Child => {
                let _ = execve(c"/bin/true", args, env);
                exit_now(9)
            }
            Cloned::Parent { pidfd, .. } => crate::linux::pid::wait(pidfd).unwrap() == crate::linux::pid::Exit::Code(0),
        }
    }

    #[test]
    fn sizes_are_judged_as_the_kernel_does() {
        in_child(|| {
            sched::set_limit(0, 3, 8 << 20, 8 << 20).unwrap();
            for (args, env, fits) in [
                (strings(1, 10), strings(1, 131_071), true),
                (strings(1, 10), strings(2, 131_072), false),
                (strings(2, 131_072), strings(1, 1), false),
                (strings(15, 130_000), strings(1, 1), true),
                (strings(17, 130_000), strings(1, 1), false),
                (strings(1, 1), strings(150_000, 1), true),
                (strings(1, 1), strings(250_000, 1), false),
            ] {
                assert_eq!(check_size(&args, &env).is_ok(), fits, "{} and {}", args.len(), env.len());
                assert_eq!(kernel_takes(&args, &env), fits, "kernel: {} and {}", args.len(), env.len());
            }
        });
        let text = check_size(&strings(1, 1), &strings(2, 200_000)).unwrap_err().to_string();
        assert_eq!(text, "argument list too long: one string may have 131071 bytes (process.env[0])");
    }

    #[test]
    fn the_working_directory_is_inside_or_refused() {
        if crate::linux::cred::ids().1 != 0 {
            eprintln!("skipped: needs root");
            return;
        }
        in_child(|| {
            let outside = fd::open_dir("/proc").unwrap();
            change_directory("/usr").unwrap();
            mount::chroot("/usr").unwrap();
            change_directory("/").unwrap();
            // As /proc/self/fd/N would lead there.
            mount::fchdir(&outside).unwrap();
            let error = change_directory(".").unwrap_err().to_string();
            assert!(error.starts_with("current working directory is outside of container mount namespace root"), "{error}");
            assert_eq!(change_directory("/none").unwrap_err().errno, Some(Errno::ENOENT));
        });
    }
}
