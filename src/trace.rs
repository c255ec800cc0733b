// SPDX-License-Identifier: Apache-2.0
//! `--trace FILE`: what a command did, from when to when, in every process that took part, in the Chrome trace event format
//! (JSON Array Format), which Perfetto and chrome://tracing open and `berth trace` draws.
//!
//! Like a log, it belongs to the process: whoever does something that takes time opens a [`span`], and where no trace is wanted that is
//! one look at a flag. Steps of a plan cost one read of the clock each, because one ends where the next begins ([`Times`]); names are
//! made when all is over. The container's process, which must not write to files of the host, tells its times to the runtime
//! ([`crate::process::sync`]) or leaves them for `start` ([`crate::process::gate`]).
//!
//! Times are microseconds since 1970 (CLOCK_REALTIME): the other clocks jump where a process enters a time namespace, and commands that
//! write into one file, as an engine's do, have to agree.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::sys::uio::{pread, pwrite};
use serde::Serialize;

use crate::error::{Error, Kind, Result, Told};
use crate::linux::call::CallError;
use crate::linux::fd::{self, OFlag};
use crate::linux::{pid, time};

/// One thing that was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// What.
    pub name: String,
    /// JSON path of the field that asked for it; empty where none did.
    pub at: String,
    /// When it began.
    pub begin: u64,
    /// When it ended; 0 where that is not known yet.
    pub end: u64,
}

/// The times of a process that carries out a plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// When each step began, in the plan's order; each ends where the next begins.
    pub marks: Vec<u64>,
    /// The last mark is the end of the last step, and not the beginning of another.
    pub closed: bool,
    /// Parts of steps (hooks); and after the start gate, where nobody else has the plan, the steps themselves.
    pub spans: Vec<Span>,
}

impl Times {
    /// Each step as a span, by its place in the plan. The last one, where it goes on, ends at `now`.
    pub fn steps(&self, now: u64) -> impl Iterator<Item = (usize, u64, u64)> {
        let ends = self.marks.iter().skip(1).copied().chain(if self.closed { None } else { Some(now) });
        self.marks.iter().copied().zip(ends).enumerate().map(|(index, (begin, end))| (index, begin, end))
    }
}

/// What is being recorded.
struct Recorder {
    /// Of the file, absolute.
    path: String,
    /// Of the command.
    name: String,
    begun: u64,
    /// With the process that each is of.
    spans: Vec<(i32, Span)>,
    /// Processes and their names.
    processes: Vec<(i32, String)>,
}

static ON: AtomicBool = AtomicBool::new(false);
static RECORDER: Mutex<Option<Box<Recorder>>> = Mutex::new(None);
/// Spans of a process that has no file: the container's.
static LOOSE: Mutex<Vec<Span>> = Mutex::new(Vec::new());

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether times are wanted.
pub fn on() -> bool {
    ON.load(Ordering::Relaxed)
}

/// The time now, where times are wanted; otherwise 0.
pub fn stamp() -> u64 {
    if on() { now() } else { 0 }
}

/// The time now.
pub fn now() -> u64 {
    let now = time::now();
    now.secs.unsigned_abs() * 1_000_000 + u64::from(now.nanos / 1000)
}

/// Begins to record a command of this name, to be added to the file at this absolute path: one that is there must be a trace, or empty.
pub fn open(path: &str, name: String) -> Result<()> {
    let begun = now();
    end_of(&file(path)?, path)?;
    let recorder = Recorder { path: path.into(), name, begun, spans: Vec::new(), processes: Vec::new() };
    *lock(&RECORDER) = Some(Box::new(recorder));
    ON.store(true, Ordering::Relaxed);
    Ok(())
}

/// Nothing has it open for longer than it takes to write: the container's process never.
fn file(path: &str) -> Result<OwnedFd> {
    let told = || format!("--trace: cannot write {path}");
    let (dir, name) = path.rsplit_once('/').unwrap_or((".", path));
    let dir = fd::open_dir_path(if dir.is_empty() { "/" } else { dir }).told(told)?;
    let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_NOCTTY | OFlag::O_NONBLOCK;
    let file = fd::openat(&dir, name, flags, 0o644).told(told)?;
    match fd::stat(&file).told(told)?.is_regular() {
        true => Ok(file),
        false => Err(Error::new(Kind::Usage, told()).hint("it is no regular file")),
    }
}

/// In a process that was cloned from the one that records: what was recorded so far is not its own.
pub fn begin_process(on: bool) {
    // Nothing was and nothing will be: to write that would be a page to copy.
    if !on && !self::on() {
        return;
    }
    ON.store(on, Ordering::Relaxed);
    *lock(&LOOSE) = Vec::new();
    *lock(&RECORDER) = None;
}

/// Something that goes on; its end is its drop.
pub struct Open {
    name: String,
    begin: u64,
}

impl Drop for Open {
    fn drop(&mut self) {
        add(0, Span { name: std::mem::take(&mut self.name), begin: self.begin, end: now(), ..Span::default() });
    }
}

/// Begins something. `name` is only made where times are wanted.
pub fn span(name: impl FnOnce() -> String) -> Option<Open> {
    on().then(|| Open { name: name(), begin: now() })
}

/// Adds something that has been done, by this process or by another one.
pub fn add(pid: i32, span: Span) {
    match lock(&RECORDER).as_mut() {
        Some(recorder) => recorder.spans.push((pid, span)),
        None => lock(&LOOSE).push(span),
    }
}

/// Takes what this process has recorded itself.
pub fn take() -> Vec<Span> {
    match lock(&RECORDER).as_mut() {
        Some(recorder) => std::mem::take(&mut recorder.spans).into_iter().map(|(_, span)| span).collect(),
        None => std::mem::take(&mut *lock(&LOOSE)),
    }
}

/// Adds the steps of a plan, of another process (by its pid), or of this one (0, and no name), with what that told besides. The last one
/// goes on until `ended`, or, where that is 0, until now. `steps` gives their names and fields.
pub fn add_process(pid: i32, name: &str, times: &Times, ended: u64, steps: &dyn Fn(usize) -> (String, String)) {
    if !on() {
        return;
    }
    let now = if ended == 0 { now() } else { ended };
    for (index, begin, end) in times.steps(now) {
        let (name, at) = steps(index);
        add(pid, Span { name, at, begin, end });
    }
    for span in &times.spans {
        let end = if span.end == 0 { now } else { span.end };
        add(pid, Span { end, ..span.clone() });
    }
    if let Some(recorder) = lock(&RECORDER).as_mut().filter(|_| !name.is_empty()) {
        recorder.processes.push((pid, name.into()));
    }
}

/// Writes what has been recorded, as far as there is anything; `failed` is why the command failed. What is recorded from now on is another
/// part of the same command, which begins with the first thing that is done.
pub fn write(failed: Option<&Error>) -> Result<()> {
    let mut held = lock(&RECORDER);
    let Some(recorder) = held.as_mut() else { return Ok(()) };
    if recorder.begun == 0 && recorder.spans.is_empty() {
        return Ok(());
    }
    let own = pid::getpid();
    let first = recorder.spans.iter().map(|(_, span)| span.begin).min().unwrap_or(u64::MAX);
    let begin = if recorder.begun == 0 { first } else { recorder.begun.min(first) };
    let whole = Span { name: recorder.name.clone(), begin, end: now(), ..Span::default() };
    let mut lines = vec![named(own, "berth")];
    lines.extend(recorder.processes.drain(..).map(|(pid, name)| named(pid, &name)));
    lines.push(line(own, &whole, "command", failed));
    let mut spans: Vec<(i32, Span)> = recorder.spans.drain(..).collect();
    spans.sort_by_key(|(_, span)| (span.begin, u64::MAX - span.end));
    lines.extend(spans.iter().map(|(pid, span)| line(if *pid == 0 { own } else { *pid }, span, "step", None)));
    recorder.begun = 0;
    append(&recorder.path, &lines.join(",\n"))
}

/// What comes first and last in a file.
const HEAD: &str = "[\n";
const TAIL: &str = "\n]\n";

/// Where the next event goes: before the tail; 0 in an empty file.
fn end_of(file: &OwnedFd, path: &str) -> Result<u64> {
    let told = || format!("--trace: cannot write {path}");
    let size = fd::stat(file).told(told)?.size;
    if size == 0 {
        return Ok(0);
    }
    let mut tail = [0; TAIL.len()];
    let end = size.saturating_sub(TAIL.len() as u64);
    let read = pread(file, &mut tail, end as i64);
    if end == 0 || read != Ok(TAIL.len()) || tail != *TAIL.as_bytes() {
        return Err(Error::new(Kind::Usage, told()).hint("it is there and is no trace: name another file"));
    }
    Ok(end)
}

/// Adds events, one command at a time.
fn append(path: &str, events: &str) -> Result<()> {
    let told = || format!("--trace: cannot write {path}");
    let file = file(path)?;
    fd::flock(&file, true, true).told(told)?;
    let end = end_of(&file, path)?;
    let text = format!("{}{events}{TAIL}", if end == 0 { HEAD } else { ",\n" });
    let (mut rest, mut at) = (text.as_bytes(), end as i64);
    while !rest.is_empty() {
        let wrote = pwrite(&file, rest, at).map_err(|errno| CallError::new("pwrite64()", errno)).told(told)?;
        rest = &rest[wrote..];
        at += wrote as i64;
    }
    Ok(())
}

/// A complete event ("X"), or what a process is called ("M").
#[derive(Serialize)]
struct Event<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    cat: &'a str,
    ph: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ts: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dur: Option<u64>,
    pid: i32,
    tid: i32,
    args: Args<'a>,
}

#[derive(Serialize, Default)]
struct Args<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    config: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
}

fn line(pid: i32, span: &Span, cat: &str, failed: Option<&Error>) -> String {
    let (error, code) = (failed.map(ToString::to_string), failed.map(|error| error.code().name()));
    text(&Event {
        name: &span.name,
        cat,
        ph: "X",
        ts: Some(span.begin),
        dur: Some(span.end.saturating_sub(span.begin)),
        pid,
        tid: pid,
        args: Args { config: &span.at, error, code, ..Args::default() },
    })
}

fn named(pid: i32, name: &str) -> String {
    let args = Args { name, ..Args::default() };
    text(&Event { name: "process_name", cat: "", ph: "M", ts: None, dur: None, pid, tid: pid, args })
}

/// Text and numbers only: there is nothing in it that could fail to be written.
fn text(event: &Event<'_>) -> String {
    serde_json::to_string(event).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::fd::tests::Scratch;
    use crate::linux::test_child::in_child;

    #[test]
    fn steps_end_where_the_next_begin() {
        let open = Times { marks: vec![10, 14, 20], closed: false, spans: vec![] };
        assert_eq!(open.steps(25).collect::<Vec<_>>(), [(0, 10, 14), (1, 14, 20), (2, 20, 25)]);
        let closed = Times { closed: true, ..open };
        assert_eq!(closed.steps(25).collect::<Vec<_>>(), [(0, 10, 14), (1, 14, 20)]);
        assert_eq!(Times::default().steps(1).count(), 0);
    }

    #[test]
    fn commands_add_to_one_file_which_stays_json() {
        let scratch = Scratch::new();
        let path = scratch.path().join("trace.json");
        for round in 1..=2 {
            in_child(|| {
                assert!(span(|| unreachable!()).is_none(), "off, no name is made");
                open(path.to_str().unwrap(), format!("create \"{round}\"")).unwrap();
                drop(span(|| "inner".into()));
                let times = Times { marks: vec![now()], ..Times::default() };
                add_process(42, "container", &times, 0, &|index| (format!("step {index}"), "mounts[0]".into()));
                write(Some(&Error::new(Kind::Hook, "no\nway"))).unwrap();
                write(None).unwrap();
                drop(span(|| "later".into()));
                write(None).unwrap();
            });
            let events: Vec<serde_json::Value> = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            assert_eq!(events.len(), round * 8, "{events:#?}");
            let whole = events.iter().rfind(|event| !event["args"]["error"].is_null()).unwrap();
            assert_eq!(whole["name"], format!("create \"{round}\""));
            assert!(events.iter().all(|event| event["ph"] == "M" || event["dur"].is_u64() && event["ts"].is_u64()));
        }
    }

    #[test]
    fn other_files_are_left_alone() {
        let scratch = Scratch::new();
        let path = scratch.path().join("x");
        for text in ["x", "\n]\n", "{\"a\": 1}\n"] {
            std::fs::write(&path, text).unwrap();
            in_child(|| {
                assert_eq!(open(path.to_str().unwrap(), "x".into()).unwrap_err().kind, Kind::Usage);
                assert_eq!(open("/dev/null", "x".into()).unwrap_err().kind, Kind::Usage);
            });
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
    }
}
