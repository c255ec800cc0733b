// SPDX-License-Identifier: Apache-2.0
//! Tables of Markdown, bars of text, and a picture. The first runtime is the base of all ratios.

use std::fmt::Write;

use crate::cases::{COMMANDS, Growth, Rate, Table};
use crate::measure::{Cost, Runtime};

/// The table of commands: CPU time, its ratio to the first runtime's, wall time and peak memory.
pub fn commands(table: &Table) {
    println!("\n### Commands of a container's life, Docker's default configuration (medians)\n");
    let columns = |what: &str| table.names.iter().map(|name| format!(" {name} {what} |")).collect::<String>();
    println!("| command |{}{}{}{}", columns("CPU ms"), columns("×"), columns("wall ms"), columns("peak KiB"));
    println!("|---|{}", "---:|".repeat(4 * table.names.len()));
    for (name, costs) in COMMANDS.iter().zip(&table.costs) {
        let row = |cell: &dyn Fn(&Cost) -> String| costs.iter().map(|cost| format!(" {} |", cell(cost))).collect::<String>();
        let base = costs[0].cpu_ms;
        println!(
            "| {name} |{}{}{}{}",
            row(&|cost| format!("{:.2}", cost.cpu_ms)),
            row(&|cost| format!("{:.1}", cost.cpu_ms / base)),
            row(&|cost| format!("{:.1}", cost.wall_ms)),
            row(&|cost| format!("{:.0}", cost.peak_kib)),
        );
    }
    let waiting: Vec<String> =
        table.names.iter().zip(&table.waiting_pss_kib).map(|(name, kib)| format!("{name} {kib:.0}")).collect();
    println!("\nA created container that waits to be started takes (Pss, KiB): {}", waiting.join(", "));
}

/// The same CPU times as bars.
pub fn bars(table: &Table) {
    println!("\n```");
    let most = table.costs.iter().flatten().map(|cost| cost.cpu_ms).fold(0.0, f64::max);
    for (name, costs) in COMMANDS.iter().zip(&table.costs) {
        for (runtime, cost) in table.names.iter().zip(costs) {
            let length = (cost.cpu_ms / most * 50.0).round() as usize;
            println!("{name:<14} {runtime:<8} {:<51}{:.2} ms", "█".repeat(length.max(1)), cost.cpu_ms);
        }
    }
    println!("```");
}

/// The same CPU times as a picture.
pub fn svg(table: &Table) -> String {
    const COLOURS: [&str; 5] = ["#888888", "#2b6cb0", "#dd6b20", "#38a169", "#805ad5"];
    let most = table.costs.iter().flatten().map(|cost| cost.cpu_ms).fold(0.0, f64::max);
    let rows = table.names.len();
    let (line, gap) = (14, 12);
    let height = 30 + COMMANDS.len() * (rows * line + gap);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"760\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"11\">\n"
    );
    text.push_str("<text x=\"4\" y=\"16\">CPU time of each command, milliseconds; less is better</text>\n");
    let mut top = 26;
    for (name, costs) in COMMANDS.iter().zip(&table.costs) {
        let _ = writeln!(text, "<text x=\"4\" y=\"{}\">{name}</text>", top + line - 3);
        for (index, (runtime, cost)) in table.names.iter().zip(costs).enumerate() {
            let (width, colour) = ((cost.cpu_ms / most * 480.0).max(1.0), COLOURS[index % COLOURS.len()]);
            let _ =
                writeln!(text, "<rect x=\"100\" y=\"{top}\" width=\"{width:.1}\" height=\"{}\" fill=\"{colour}\"/>", line - 2);
            let _ =
                writeln!(text, "<text x=\"{:.1}\" y=\"{}\">{runtime} {:.2}</text>", 106.0 + width, top + line - 4, cost.cpu_ms);
            top += line;
        }
        top += gap;
    }
    text.push_str("</svg>\n");
    text
}

/// How many system calls each command takes, the container's processes included.
pub fn syscalls(runtimes: &[Runtime], counts: &[Vec<u64>]) {
    println!("\n### System calls, processes of the container included\n");
    heading("command", runtimes);
    for (index, command) in COMMANDS[..COMMANDS.len() - 1].iter().enumerate() {
        println!("| {command} |{}", counts.iter().map(|count| format!(" {} |", count[index])).collect::<String>());
    }
}

/// Containers per second. Two whole processors would make as many as the CPU time of one says; what is less is the kernel's waiting.
pub fn throughput(runtimes: &[Runtime], rates: &[Rate]) {
    println!("\n### Containers per second, two workers\n");
    heading("run", runtimes);
    let row = |name: &str, of: fn(&Rate) -> String| println!("| {name} |{}", rates.iter().map(of).collect::<String>());
    row("per second", |rate| format!(" {:.0} |", rate.per_second));
    row("CPU ms of each", |rate| format!(" {:.2} |", rate.cpu_ms));
    row("so many would be 2 processors' whole CPU", |rate| format!(" {:.0} |", 2e3 / rate.cpu_ms.max(1e-3)));
}

/// CPU time by a growing number.
pub fn growth(runtimes: &[Runtime], growth: &Growth) {
    println!("\n### CPU ms of {}\n", growth.title);
    heading("number", runtimes);
    for (count, row) in &growth.points {
        let cell = |cpu: &Option<f64>| cpu.map_or(" – |".to_string(), |cpu| format!(" {cpu:.2} |"));
        println!("| {count} |{}", row.iter().map(cell).collect::<String>());
    }
}

fn heading(first: &str, runtimes: &[Runtime]) {
    println!("| {first} |{}", runtimes.iter().map(|runtime| format!(" {} |", runtime.name)).collect::<String>());
    println!("|---|{}", "---:|".repeat(runtimes.len()));
}
