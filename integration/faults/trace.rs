// SPDX-License-Identifier: Apache-2.0
//! The tracer: runs one command of the runtime, follows every process it makes (ptrace(2)), and strikes once. It is a process of its
//! own: when it ends, whatever it still traces goes on by itself, as if it had never been traced.
//!
//! A point is (process, call): the how-manieth process of the command, in the order in which they were made, and which of its calls.
//! So a point means the same in each run, although the processes run at once. What a process does after its execve(2) is not the
//! runtime's any more; only the first one executes itself.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::ptrace::{self, Event, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, alarm};

use super::calls;
use super::{HANG, Strike};

/// One traced process.
#[derive(Default)]
struct Process {
    index: usize,
    /// It is the runtime's: the first one before its execve(2) is ours.
    runs: bool,
    /// Between the entry and the exit of a call.
    in_call: bool,
    /// Points so far.
    points: usize,
    /// The call it is in shall fail with this.
    failing: Option<i32>,
    /// std looks at descriptors 0 to 2 with it when a program starts, and takes an unknown error for the end of the world.
    first_poll: bool,
}

struct Tracer {
    strike: Strike,
    /// Where: process and call, from 0.
    at: (usize, usize),
    struck: bool,
    main: Pid,
    processes: BTreeMap<Pid, Process>,
    points: Vec<usize>,
}

/// `faults traced PROGRAM ARGUMENT…`: stops, to be seized by its parent, and becomes the program.
pub fn traced(words: &[String]) -> ! {
    nix::sys::signal::raise(Signal::SIGSTOP).unwrap();
    panic!("{}: {}", words[0], Command::new(&words[0]).args(&words[1..]).exec())
}

/// `faults trace STRIKE PROCESS CALL STDERR PROGRAM ARGUMENT…`. Prints what happened, a fact a line. What the program prints goes beside STDERR.
pub fn trace(words: &[String]) {
    let strike = Strike::parse(&words[0]).unwrap();
    let at = (words[1].parse().unwrap(), words[2].parse().unwrap());
    let stderr = std::fs::File::create(&words[3]).unwrap();
    // The signal ends this process, and so the tracing: the driver sees that.
    alarm::set(HANG.as_secs() as u32);
    let mut command = Command::new(std::env::current_exe().unwrap());
    let stdout = std::fs::File::create(Path::new(&words[3]).with_extension("out")).unwrap();
    command.arg("traced").args(&words[4..]).stdin(Stdio::null()).stdout(stdout).stderr(stderr);
    let main = Pid::from_raw(command.spawn().unwrap().id() as i32);
    let mut tracer = Tracer { strike, at, struck: false, main, processes: BTreeMap::new(), points: Vec::new() };
    tracer.run();
}

impl Tracer {
    fn run(&mut self) {
        let first = waitpid(self.main, Some(WaitPidFlag::WUNTRACED)).unwrap();
        assert_eq!(first, WaitStatus::Stopped(self.main, Signal::SIGSTOP));
        self.process(self.main);
        let follow = Options::PTRACE_O_TRACEFORK | Options::PTRACE_O_TRACEVFORK | Options::PTRACE_O_TRACECLONE;
        // Seized, not PTRACE_TRACEME: a new process is then not sent a SIGSTOP, which would stop it for good where we end before it has
        // arrived.
        ptrace::seize(self.main, follow | Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_TRACEEXEC).unwrap();
        kill(self.main, Signal::SIGCONT).unwrap();
        loop {
            match waitpid(None, Some(WaitPidFlag::__WALL)).unwrap() {
                WaitStatus::PtraceSyscall(pid) => self.call(pid),
                WaitStatus::PtraceEvent(pid, _, event) => self.event(pid, event),
                WaitStatus::Stopped(pid, signal) => self.resume(pid, Some(signal)),
                WaitStatus::Signaled(pid, signal, _) => {
                    let index = self.process(pid).index;
                    self.processes.remove(&pid);
                    if signal != Signal::SIGKILL {
                        println!("died {index} {signal}");
                    }
                    if pid == self.main {
                        return self.end(&format!("signal {}", signal as i32));
                    }
                }
                WaitStatus::Exited(pid, code) => {
                    self.processes.remove(&pid);
                    if code == 101 {
                        println!("died panic");
                    }
                    if pid == self.main {
                        return self.end(&format!("exit {code}"));
                    }
                }
                _ => {}
            }
        }
    }

    fn end(&self, how: &str) {
        if self.strike.is_count() {
            self.points.iter().for_each(|points| println!("points {points}"));
        }
        println!("end {how}");
    }

    fn process(&mut self, pid: Pid) -> &mut Process {
        let points = &mut self.points;
        self.processes.entry(pid).or_insert_with(|| {
            points.push(0);
            let index = points.len() - 1;
            Process { index, runs: index > 0, ..Process::default() }
        })
    }

    /// Lets a process go on, to its next call where that matters.
    fn resume(&mut self, pid: Pid, signal: Option<Signal>) {
        let (strike, at, struck) = (self.strike, self.at, self.struck);
        let process = self.process(pid);
        let watched = process.failing.is_some() || (process.runs && !struck && (strike.is_count() || process.index == at.0));
        // It may have been killed meanwhile.
        let _ = if watched { ptrace::syscall(pid, signal) } else { ptrace::cont(pid, signal) };
    }

    fn event(&mut self, pid: Pid, event: i32) {
        if event == Event::PTRACE_EVENT_EXEC as i32 {
            if pid != self.main {
                let _ = ptrace::detach(pid, None);
                self.processes.remove(&pid);
                return;
            }
            // The exit from execve(2) is the next stop, whether we saw its entry or not.
            let process = self.process(pid);
            (process.runs, process.in_call, process.first_poll) = (true, true, false);
        } else if [Event::PTRACE_EVENT_FORK, Event::PTRACE_EVENT_VFORK, Event::PTRACE_EVENT_CLONE]
            .iter()
            .any(|made| *made as i32 == event)
            && let Ok(new @ 2..) = ptrace::getevent(pid)
        {
            self.process(Pid::from_raw(new as i32));
        }
        self.resume(pid, None);
    }

    fn call(&mut self, pid: Pid) {
        let process = self.process(pid);
        process.in_call = !process.in_call;
        if !process.in_call {
            if let (Some(errno), Ok(mut registers)) = (process.failing.take(), ptrace::getregs(pid)) {
                registers.rax = -i64::from(errno) as u64;
                let _ = ptrace::setregs(pid, registers);
            }
        } else if let Ok(registers) = ptrace::getregs(pid)
            && !self.struck
            && self.is_point(pid, &registers)
        {
            let at = self.at;
            let process = self.process(pid);
            let here = (process.index, process.points) == at;
            process.points += 1;
            let (index, points) = (process.index, process.points);
            self.points[index] = points;
            if here {
                self.strike(pid, registers);
            }
        }
        self.resume(pid, None);
    }

    fn is_point(&mut self, pid: Pid, registers: &libc::user_regs_struct) -> bool {
        let number = registers.orig_rax as i64;
        if !self.strike.is_kill() {
            let process = self.process(pid);
            let of_std = number == libc::SYS_poll && !process.first_poll && process.index == 0;
            process.first_poll |= of_std;
            return calls::can_fail(number) && !of_std;
        }
        let flags = match number {
            libc::SYS_open => registers.rsi,
            libc::SYS_openat => registers.rdx,
            // The first member of struct open_how.
            libc::SYS_openat2 => ptrace::read(pid, registers.rdx as ptrace::AddressType).unwrap_or_default() as u64,
            _ => 0,
        };
        calls::has_effect(number, flags)
    }

    fn strike(&mut self, pid: Pid, mut registers: libc::user_regs_struct) {
        if self.strike.is_count() {
            return;
        }
        self.struck = true;
        println!("hit {}", calls::name(registers.orig_rax as i64));
        match self.strike {
            // Who has ended meanwhile needs no killing.
            Strike::Main => _ = kill(self.main, Signal::SIGKILL),
            Strike::Itself => _ = kill(pid, Signal::SIGKILL),
            Strike::Tree => self.processes.keys().for_each(|pid| _ = kill(*pid, Signal::SIGKILL)),
            Strike::Fail(errno) => {
                registers.orig_rax = u64::MAX;
                let _ = ptrace::setregs(pid, registers);
                self.process(pid).failing = Some(errno);
            }
            Strike::CountKills | Strike::CountFailures => {}
        }
    }
}
