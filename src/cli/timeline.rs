// SPDX-License-Identifier: Apache-2.0
//! `trace FILE`: what `--trace` recorded (or any trace in the Chrome trace event format) as bars of text.

use serde_json::Value;

use crate::error::{Error, Kind, Result, Told};
use crate::linux::fd;
use crate::linux::time::Time;
use crate::spec::load;

/// Largest file that is read.
const MOST: usize = 64 << 20;
/// What names and times take, before the bars.
const NAMES: usize = 46;

/// A complete event.
struct Bar {
    pid: i64,
    name: String,
    begin: u64,
    end: u64,
    error: Option<String>,
}

/// Draws a trace, `columns` wide.
pub fn draw(path: &str, columns: usize) -> Result<String> {
    let told = || format!("cannot read the trace {path}");
    let bytes = fd::read_file_bounded(path, MOST).told(told)?;
    let wrong = |why: String| Error::new(Kind::Usage, format!("{}: {why}", told()));
    let value: Value = load::json(&bytes).map_err(|error| wrong(error.to_string()))?;
    let events = value.as_array().or_else(|| value["traceEvents"].as_array());
    let events = events.ok_or_else(|| wrong("it is no array of trace events".into()))?;
    let mut bars: Vec<Bar> = events.iter().filter_map(bar).collect();
    // Outer ones first.
    bars.sort_by_key(|bar| (bar.begin, u64::MAX - bar.end));
    let mut out = String::new();
    let mut rest = &bars[..];
    while let Some(first) = rest.first() {
        // Up to the first moment at which nothing goes on.
        let mut end = first.end;
        let reaches = |bar: &&Bar| {
            let within = bar.begin <= end;
            end = end.max(bar.end);
            within
        };
        let (part, after) = rest.split_at(rest.iter().take_while(reaches).count());
        let end = part.iter().map(|bar| bar.end).max().unwrap_or(first.end);
        part_text(&mut out, part, (first.begin, end), events, columns);
        rest = after;
    }
    Ok(out)
}

fn bar(event: &Value) -> Option<Bar> {
    // Other writers have fractions of microseconds.
    let number = |field: &str| event[field].as_u64().or_else(|| event[field].as_f64().map(|number| number as u64));
    if event["ph"] != "X" {
        return None;
    }
    let begin = number("ts")?;
    Some(Bar {
        pid: event["pid"].as_i64().unwrap_or(0),
        name: event["name"].as_str().unwrap_or("?").to_string(),
        begin,
        end: begin.saturating_add(number("dur").unwrap_or(0)),
        error: event["args"]["error"].as_str().map(String::from),
    })
}

/// What went on without a pause, a process after the other.
fn part_text(out: &mut String, part: &[Bar], (begin, end): (u64, u64), events: &[Value], columns: usize) {
    let time = Time { secs: (begin / 1_000_000) as i64, nanos: (begin % 1_000_000) as u32 * 1000 };
    out.push_str(&format!("{}, {}\n", time.rfc3339(), milliseconds(end - begin)));
    let mut pids: Vec<i64> = Vec::new();
    for bar in part {
        if !pids.contains(&bar.pid) {
            pids.push(bar.pid);
        }
    }
    for pid in pids {
        let is_name = |event: &&Value| event["ph"] == "M" && event["name"] == "process_name" && event["pid"] == pid;
        let name = events.iter().rfind(is_name).and_then(|event| event["args"]["name"].as_str()).unwrap_or("process");
        out.push_str(&format!("  {name} {pid}\n"));
        let mut ends: Vec<u64> = Vec::new();
        for bar in part.iter().filter(|bar| bar.pid == pid) {
            // It lies within those that have not ended.
            while ends.last().is_some_and(|end| *end < bar.end || *end <= bar.begin) {
                ends.pop();
            }
            row(out, bar, ends.len(), (begin, end), columns);
            ends.push(bar.end);
        }
    }
    out.push('\n');
}

fn row(out: &mut String, bar: &Bar, depth: usize, (begin, end): (u64, u64), columns: usize) {
    let indent = 4 + 2 * depth.min(6);
    let room = NAMES - indent;
    let mut name: String = bar.name.chars().map(|c| if c.is_control() { ' ' } else { c }).take(room).collect();
    if bar.name.chars().count() > room {
        name.pop();
        name.push('…');
    }
    let took = milliseconds(bar.end - bar.begin);
    let width = columns.saturating_sub(NAMES + 16).max(20) as u64;
    let whole = (end - begin).max(1);
    let place = |time: u64| (time.saturating_sub(begin).saturating_mul(width) / whole).min(width - 1);
    let (from, to) = (place(bar.begin), place(bar.end).max(place(bar.begin)));
    let (before, within) = (" ".repeat(from as usize), "#".repeat((to - from + 1) as usize));
    out.push_str(&format!("{:indent$}{name:<room$} {took:>11}  {before}{within}\n", ""));
    if let Some(error) = &bar.error {
        out.push_str(&format!("{:indent$}failed: {error}\n", ""));
    }
}

fn milliseconds(us: u64) -> String {
    format!("{}.{:03} ms", us / 1000, us % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::fd::tests::Scratch;

    fn drawn(text: &str) -> Result<String> {
        let scratch = Scratch::new();
        let path = scratch.path().join("t");
        std::fs::write(&path, text).unwrap();
        draw(path.to_str().unwrap(), 82)
    }

    #[test]
    fn bars_stand_below_each_other_by_process_and_part() {
        let event = |pid: i32, name: &str, ts: u64, dur: u64| {
            format!("{{\"ph\":\"X\",\"name\":\"{name}\",\"pid\":{pid},\"tid\":{pid},\"ts\":{ts},\"dur\":{dur}}}")
        };
        let text = format!(
            "[{},{},{},{},{{\"ph\":\"M\",\"name\":\"process_name\",\"pid\":7,\"args\":{{\"name\":\"init\"}}}}]",
            event(1, "create", 1_000_000, 2000),
            event(7, "mount", 1_001_000, 1000),
            event(1, "plan", 1_000_000, 500),
            event(1, "start", 9_000_000, 10)
        );
        let expected = "\
1970-01-01T00:00:01.000000000Z, 2.000 ms
  process 1
    create                                        2.000 ms  ####################
      plan                                        0.500 ms  ######
  init 7
    mount                                         1.000 ms            ##########

1970-01-01T00:00:09.000000000Z, 0.010 ms
  process 1
    start                                         0.010 ms  ####################

";
        assert_eq!(drawn(&text).unwrap(), expected);
        assert_eq!(drawn(&format!("{{\"traceEvents\":{text}}}")).unwrap(), expected);
    }

    #[test]
    fn failures_and_long_names_are_shown_and_nonsense_refused() {
        let text = format!(
            "[{{\"ph\":\"X\",\"name\":\"{}\",\"ts\":0.5,\"dur\":1e3,\"args\":{{\"error\":\"no\"}}}}]",
            "mount ".repeat(20)
        );
        let drawn_text = drawn(&text).unwrap();
        assert!(drawn_text.contains("mount…") && drawn_text.contains("\n    failed: no\n"), "{drawn_text}");
        for bad in ["", "[", "{}", "7"] {
            assert_eq!(drawn(bad).unwrap_err().kind, Kind::Usage, "{bad}");
        }
    }
}
