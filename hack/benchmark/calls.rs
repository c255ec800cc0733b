// SPDX-License-Identifier: Apache-2.0
//! Where the time of a command goes: its system calls and those of the container's process until that runs its program, of the first two
//! runtimes side by side, by the kernel's own tracepoints (perf(1), raw_syscalls).
//!
//! The tracer adds a microsecond or two to each call and to what lies between two calls; a ratio of times is therefore not what a
//! benchmark says, but what a call costs beside another is.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use berth::plan::seccomp::{Arch, Syscall};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::Pid;

use crate::Options;
use crate::bundle::Bundles;
use crate::cases::commands_of_a_life;
use crate::measure::{Outcome, Runtime, median, pid_in, reap};

/// A call of these that takes longer than [`WAITED`] waits for another process, and costs nothing meanwhile.
const WAITS: [&str; 8] = ["poll", "read", "recvmsg", "recvfrom", "waitid", "wait4", "epoll_wait", "ppoll"];
/// In microseconds.
const WAITED: f64 = 100.0;
/// What lies between two calls.
const BETWEEN: &str = "between the calls";

/// By name: how often, and how long in microseconds, in one round.
type Spent = BTreeMap<String, (f64, f64)>;

/// Time in microseconds, whether a call begins, and its number.
type Event = (f64, bool, i64);

/// What the tracer saw, by process, in the order in which they began.
type Seen = Vec<(u32, Vec<Event>)>;

/// One process of a traced command.
struct Traced {
    /// The container's, not the command's.
    container: bool,
    events: Vec<Event>,
}

/// Prints both tables of one command.
pub fn compare(options: &Options, bundles: &Bundles, command: &str) -> Outcome<bool> {
    let mut sides = Vec::new();
    for runtime in options.runtimes.iter().take(2) {
        sides.push((runtime.name.as_str(), rounds(runtime, bundles, command, options.runs)?));
    }
    for (container, of) in [(false, "the command"), (true, "the container's process, until its program runs")] {
        let tables: Vec<_> = sides.iter().map(|(name, rounds)| (*name, middle(rounds, container))).collect();
        // Only some commands make a process of the container.
        if tables.iter().any(|(_, spent)| !spent.is_empty()) {
            println!("\n### {command}: system calls of {of} (median of {} rounds: number, µs under the tracer)\n", options.runs);
            print(&tables);
        }
    }
    Ok(true)
}

fn print(sides: &[(&str, Spent)]) {
    let names = sides.iter().map(|(name, _)| format!(" {name} | µs |")).collect::<String>();
    println!("| call |{names}\n|---|{}", "---:|---:|".repeat(sides.len()));
    let mut calls: Vec<&String> = sides.iter().flat_map(|(_, spent)| spent.keys()).collect();
    calls.sort();
    calls.dedup();
    let of = |spent: &Spent, call: &str| spent.get(call).copied().unwrap_or_default();
    let last = |call: &str| sides.last().map_or(0.0, |(_, spent)| of(spent, call).1);
    calls.sort_by(|one, other| last(other).total_cmp(&last(one)));
    for call in calls {
        let cells = sides.iter().map(|(_, spent)| of(spent, call)).map(|(count, us)| format!(" {count:.0} | {us:.0} |"));
        println!("| {call} |{}", cells.collect::<String>());
    }
    let sums = sides.iter().map(|(_, spent)| {
        let calls: f64 = spent.iter().filter(|(name, _)| *name != BETWEEN).map(|(_, (count, _))| count).sum();
        format!(" {calls:.0} | {:.0} |", spent.values().map(|(_, us)| us).sum::<f64>())
    });
    println!("| all |{}", sums.collect::<String>());
}

/// The medians of each call.
fn middle(rounds: &[Vec<Traced>], container: bool) -> Spent {
    let each: Vec<Spent> =
        rounds.iter().map(|round| spent(round.iter().filter(|traced| traced.container == container))).collect();
    let names: std::collections::BTreeSet<&String> = each.iter().flat_map(BTreeMap::keys).collect();
    let of = |name: &str, which: fn((f64, f64)) -> f64| {
        median(each.iter().map(|spent| spent.get(name).copied().map_or(0.0, which)).collect())
    };
    names.into_iter().map(|name| (name.clone(), (of(name, |(count, _)| count), of(name, |(_, us)| us)))).collect()
}

fn spent<'a>(processes: impl Iterator<Item = &'a Traced>) -> Spent {
    let mut spent = Spent::new();
    let mut add = |name: String, us: f64| {
        let entry = spent.entry(name).or_default();
        *entry = (entry.0 + 1.0, entry.1 + us);
    };
    for process in processes {
        let mut last = None;
        for (time, begins, number) in &process.events {
            let took = last.map_or(0.0, |last| time - last);
            match begins {
                true if last.is_some() => add(BETWEEN.into(), took),
                true => {}
                // The first of a new process is the end of a call that began in another.
                false if last.is_none() => {}
                false => {
                    let name = name_of(*number);
                    let waits = WAITS.contains(&name.as_str()) && took > WAITED;
                    add(name, if waits { 0.0 } else { took });
                }
            }
            last = Some(*time);
        }
    }
    spent
}

fn name_of(number: i64) -> String {
    let known = u32::try_from(number).ok().and_then(|number| Syscall::from_number(Arch::NATIVE, number));
    known.map_or_else(|| format!("call {number}"), |call| call.name().to_string())
}

/// Traces this command, in as many lives of a container.
fn rounds(runtime: &Runtime, bundles: &Bundles, command: &str, count: usize) -> Outcome<Vec<Vec<Traced>>> {
    let file = bundles.scratch("calls.perf");
    life(runtime, bundles, command)?;
    let mut perf = record(bundles, &file)?;
    let pids: Outcome<Vec<u32>> = (0..count).map(|_| life(runtime, bundles, command)).collect();
    kill(Pid::from_raw(perf.id() as i32), Signal::SIGINT)?;
    perf.wait()?;
    let mut all = read(&file)?;
    let rounds: Vec<Vec<Traced>> = pids?.iter().map(|pid| of_command(&mut all, *pid)).collect();
    match rounds.iter().filter(|round| round.is_empty()).count() {
        0 => Ok(rounds),
        missing => Err(format!("perf missed {missing} of {count} rounds: take fewer (--runs)").into()),
    }
}

/// Begins to record the calls of all processes, and comes back when that is so.
fn record(bundles: &Bundles, file: &Path) -> Outcome<Child> {
    let (orders, answers) = (bundles.scratch("perf.orders"), bundles.scratch("perf.answers"));
    let open = |path: &Path| {
        let _ = std::fs::remove_file(path);
        nix::unistd::mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR)?;
        std::fs::OpenOptions::new().read(true).write(true).open(path)
    };
    let (mut order, mut answer) = (open(&orders)?, open(&answers)?);
    let mut perf = Command::new("perf")
        .args(["record", "-q", "-N", "-a", "-D", "-1", "-e", "raw_syscalls:sys_enter", "-e", "raw_syscalls:sys_exit"])
        .arg(format!("--control=fifo:{},{}", orders.display(), answers.display()))
        .arg("-o")
        .arg(file)
        .stdin(Stdio::null())
        .spawn()?;
    order.write_all(b"enable\n")?;
    let mut polled = [PollFd::new(answer.as_fd(), PollFlags::POLLIN)];
    if poll(&mut polled, PollTimeout::from(20_000_u16))? == 0 {
        let _ = perf.kill();
        perf.wait()?;
        return Err("perf does not record: is it for this kernel, and are there tracepoints (/sys/kernel/tracing)?".into());
    }
    answer.read_exact(&mut [0; 4])?;
    Ok(perf)
}

/// The whole life of a container; the pid of this command's process.
fn life(runtime: &Runtime, bundles: &Bundles, wanted: &str) -> Outcome<u32> {
    let pid_file = bundles.scratch("pid");
    let (file, short, long) = (pid_file.to_string_lossy(), bundles.path("true"), bundles.path("pause"));
    let mut found = None;
    for arguments in commands_of_a_life(&short, &long, &file, "traced") {
        if arguments[0] == "delete" {
            reap(pid_in(&pid_file)?);
        }
        let mut process = runtime.command(&[], &arguments).spawn()?;
        if arguments[0] == wanted {
            found = Some(process.id());
        }
        if !process.wait()?.success() {
            return Err(format!("{} {} failed", runtime.name, arguments.join(" ")).into());
        }
        // A container's process that has just been told to go on is not to be killed on its way.
        std::thread::sleep(Duration::from_millis(3));
    }
    found.ok_or_else(|| format!("no command to trace: {wanted}").into())
}

fn read(file: &Path) -> Outcome<Seen> {
    let script = Command::new("perf").args(["script", "-F", "pid,time,event,trace", "-i"]).arg(file).output()?;
    let mut all = Seen::new();
    let mut places = BTreeMap::new();
    for line in String::from_utf8_lossy(&script.stdout).lines() {
        let Some((pid, event)) = event(line) else { continue };
        let place = *places.entry(pid).or_insert_with(|| {
            all.push((pid, Vec::new()));
            all.len() - 1
        });
        all[place].1.push(event);
    }
    if all.is_empty() {
        return Err("perf saw no system call: does this kernel have the tracepoints raw_syscalls (/sys/kernel/tracing)?".into());
    }
    Ok(all)
}

/// `4711 1234.567890: raw_syscalls:sys_enter: NR 59 (…)`
fn event(line: &str) -> Option<(u32, Event)> {
    let mut words = line.split_whitespace();
    let pid = words.next()?.parse().ok()?;
    let seconds: f64 = words.next()?.strip_suffix(':')?.parse().ok()?;
    let begins = match words.next()? {
        "raw_syscalls:sys_enter:" => true,
        "raw_syscalls:sys_exit:" => false,
        _ => return None,
    };
    words.next().filter(|word| *word == "NR")?;
    Some((pid, (seconds * 1e6, begins, words.next()?.parse().ok()?)))
}

/// The command's process, from its program on, and the first new process that begins while it lives.
fn of_command(all: &mut Seen, pid: u32) -> Vec<Traced> {
    let execs = |(_, _, number): &Event| ["execve", "execveat"].contains(&name_of(*number).as_str());
    let Some(at) = all.iter().position(|(one, _)| *one == pid) else { return Vec::new() };
    let mut own = std::mem::take(&mut all[at].1);
    own.drain(..own.iter().position(|event| event.1 && execs(event)).unwrap_or(0));
    let (begun, ended) = (own.first().map_or(0.0, |event| event.0), own.last().map_or(0.0, |event| event.0));
    let clones = |(_, begins, number): &Event| !begins && name_of(*number).starts_with("clone");
    let child = all[at + 1..]
        .iter_mut()
        .find(|(_, events)| events.first().is_some_and(|first| clones(first) && first.0 > begun && first.0 < ended));
    let child = child.map(|(_, events)| {
        let mut events = std::mem::take(events);
        let end = events.iter().position(execs).unwrap_or(events.len());
        events.truncate(end);
        Traced { container: true, events }
    });
    [Traced { container: false, events: own }].into_iter().chain(child).collect()
}
