// SPDX-License-Identifier: Apache-2.0
//! What is measured: the commands of a container's life, their system calls, containers per second, and how cost grows.

use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::{Value, json};

use crate::Options;
use crate::bundle::Bundles;
use crate::measure::{Cost, Outcome, Runtime, cpu_of, cpu_of_children, median, pid_in, pss_of, reap};

/// The rows of the first table, in the order of a container's life.
pub const COMMANDS: [&str; 8] = ["run", "create", "state", "start", "exec", "kill", "delete", "create…delete"];

/// The medians of each command, for each runtime.
pub struct Table {
    /// Name of each runtime.
    pub names: Vec<String>,
    /// `costs[command][runtime]`
    pub costs: Vec<Vec<Cost>>,
    /// Of the waiting init of each runtime, in KiB.
    pub waiting_pss_kib: Vec<f64>,
}

/// Measures every command of every runtime; runtimes take turns.
pub fn commands(options: &Options, bundles: &Bundles) -> Outcome<Table> {
    let runtimes = &options.runtimes;
    let mut all = vec![vec![Vec::new(); runtimes.len()]; COMMANDS.len()];
    let mut waiting = vec![Vec::new(); runtimes.len()];
    // The first rounds warm caches and are not counted.
    for round in 0..options.runs + 2 {
        for index in turns(round, runtimes.len()) {
            let (costs, pss_kib) = life(&runtimes[index], bundles, &format!("bench-{index}-{round}"))?;
            if round < 2 {
                continue;
            }
            waiting[index].push(pss_kib);
            for (command, cost) in costs.into_iter().enumerate() {
                all[command][index].push(cost);
            }
        }
    }
    let middle = |costs: &Vec<Cost>| Cost {
        wall_ms: median(costs.iter().map(|cost| cost.wall_ms).collect()),
        cpu_ms: median(costs.iter().map(|cost| cost.cpu_ms).collect()),
        peak_kib: median(costs.iter().map(|cost| cost.peak_kib).collect()),
    };
    Ok(Table {
        names: runtimes.iter().map(|runtime| runtime.name.clone()).collect(),
        costs: all.iter().map(|row| row.iter().map(middle).collect()).collect(),
        waiting_pss_kib: waiting.into_iter().map(median).collect(),
    })
}

/// The order in which runtimes take their turn.
fn turns(round: usize, count: usize) -> Vec<usize> {
    if round.is_multiple_of(2) { (0..count).collect() } else { (0..count).rev().collect() }
}

/// One run of a short container, then the whole life of a longer one; and what its init takes while it waits to be started.
fn life(runtime: &Runtime, bundles: &Bundles, id: &str) -> Outcome<(Vec<Cost>, f64)> {
    let pid_file = bundles.scratch("pid");
    let file = pid_file.to_string_lossy();
    let mut costs = vec![runtime.cost(&["run", "--bundle", &bundles.path("true"), id])?];
    let mut create = runtime.cost(&["create", "--bundle", &bundles.path("pause"), "--pid-file", &file, id])?;
    let pid = pid_in(&pid_file)?;
    let created = cpu_of(pid);
    create.cpu_ms += created;
    let pss_kib = pss_of(pid);
    costs.push(create);
    costs.push(runtime.cost(&["state", id])?);
    let before = cpu_of(pid);
    let mut start = runtime.cost(&["start", id])?;
    start.cpu_ms += cpu_of(pid) - before;
    costs.push(start);
    costs.push(runtime.cost(&["exec", id, "/bin/true"])?);
    costs.push(runtime.cost(&["kill", id, "KILL"])?);
    reap(pid);
    costs.push(runtime.cost(&["delete", id])?);
    let whole = costs[1..].iter().fold(Cost::default(), |sum, cost| Cost {
        wall_ms: sum.wall_ms + cost.wall_ms,
        cpu_ms: sum.cpu_ms + cost.cpu_ms,
        peak_kib: sum.peak_kib.max(cost.peak_kib),
    });
    costs.push(whole);
    Ok((costs, pss_kib))
}

/// The system calls of each of `COMMANDS`' single commands, processes of the container included; none without strace(1).
pub fn syscalls(runtimes: &[Runtime], bundles: &Bundles) -> Outcome<Vec<Vec<u64>>> {
    let mut table = Vec::new();
    for runtime in runtimes {
        table.push(syscalls_of(runtime, bundles)?);
    }
    Ok(table)
}

/// The single commands of `COMMANDS`, in their order: of bundles whose programs end at once, and do not.
pub fn commands_of_a_life<'a>(short: &'a str, long: &'a str, pid_file: &'a str, id: &'a str) -> [Vec<&'a str>; 7] {
    [
        vec!["run", "--bundle", short, id],
        vec!["create", "--bundle", long, "--pid-file", pid_file, id],
        vec!["state", id],
        vec!["start", id],
        vec!["exec", id, "/bin/true"],
        vec!["kill", id, "KILL"],
        vec!["delete", id],
    ]
}

/// The system calls of the single commands of one runtime, in the order of `COMMANDS` without the last.
pub fn syscalls_of(runtime: &Runtime, bundles: &Bundles) -> Outcome<Vec<u64>> {
    let (pid_file, counts) = (bundles.scratch("pid"), bundles.scratch("strace"));
    let (file, counts_file) = (pid_file.to_string_lossy(), counts.to_string_lossy());
    let (short, long) = (bundles.path("true"), bundles.path("pause"));
    let mut calls = Vec::new();
    let commands = commands_of_a_life(&short, &long, &file, "counted");
    let commands = commands.each_ref().map(Vec::as_slice);
    // What a runtime keeps on the host for later containers is made by the first.
    if !runtime.command(&[], commands[0]).status()?.success() {
        return Err(format!("{} {} fails", runtime.name, commands[0].join(" ")).into());
    }
    for arguments in commands {
        // A tracer of the container's init would have to end with it: `create` is traced without waiting for that.
        let tracer = ["strace", "-f", "-c", "-U", "calls,name", "-o", &counts_file];
        if arguments[0] == "create" {
            calls.push(calls_of_create(runtime, &tracer, arguments, &counts, &pid_file)?);
            continue;
        }
        if !runtime.command(&tracer, arguments).status()?.success() {
            return Err(format!("{} {} fails under strace", runtime.name, arguments.join(" ")).into());
        }
        calls.push(total(&counts)?);
        if arguments[0] == "kill" {
            reap(pid_in(&pid_file)?);
        }
    }
    Ok(calls)
}

/// Counts the calls of `create` to its end, in a container that is thrown away; leaves a new one that nobody traces.
fn calls_of_create(runtime: &Runtime, tracer: &[&str], arguments: &[&str], counts: &Path, pid_file: &Path) -> Outcome<u64> {
    let mut traced = runtime.command(tracer, arguments).spawn()?;
    let patience = Instant::now();
    while pid_in(pid_file).is_err() && patience.elapsed().as_secs() < 20 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    // The runtime ends by itself soon after; what is left then is the waiting init.
    while !runtime.command(&[], &["state", "counted"]).status()?.success() && patience.elapsed().as_secs() < 20 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    std::thread::sleep(std::time::Duration::from_millis(500));
    runtime.command(&[], &["delete", "--force", "counted"]).status()?;
    traced.wait()?;
    std::fs::remove_file(pid_file)?;
    let calls = total(counts)?;
    runtime.cost(arguments)?;
    Ok(calls)
}

/// The number in the line `total` that strace -c writes.
fn total(file: &Path) -> Outcome<u64> {
    let text = std::fs::read_to_string(file)?;
    let line = text.lines().find(|line| line.ends_with(" total")).ok_or("strace counted nothing")?;
    Ok(line.split_whitespace().next().unwrap_or_default().parse()?)
}

/// How fast a runtime runs short containers.
#[derive(Clone, Copy)]
pub struct Rate {
    /// Containers per second of two workers.
    pub per_second: f64,
    /// User and system time of a container.
    pub cpu_ms: f64,
}

/// How fast each runtime is: two workers, each of which runs 50 short containers, one after the other; the middle of three such races.
pub fn throughput(options: &Options, bundles: &Bundles) -> Outcome<Vec<Rate>> {
    let mut all = vec![Vec::new(); options.runtimes.len()];
    for round in 0..3 {
        for index in turns(round, options.runtimes.len()) {
            all[index].push(race(&options.runtimes[index], bundles)?);
        }
    }
    let middle = |rates: Vec<Rate>| Rate {
        per_second: median(rates.iter().map(|rate| rate.per_second).collect()),
        cpu_ms: median(rates.iter().map(|rate| rate.cpu_ms).collect()),
    };
    Ok(all.into_iter().map(middle).collect())
}

fn race(runtime: &Runtime, bundles: &Bundles) -> Outcome<Rate> {
    const EACH: usize = 50;
    let (started, spent) = (Instant::now(), cpu_of_children()?);
    let failed: usize = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..2)
            .map(|worker| scope.spawn(move || (0..EACH).filter(|round| !runs_one(runtime, bundles, worker, *round)).count()))
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap_or(EACH)).sum()
    });
    if failed > 0 {
        return Err(format!("{}: {failed} of {} containers failed", runtime.name, 2 * EACH).into());
    }
    let count = 2.0 * EACH as f64;
    Ok(Rate { per_second: count / started.elapsed().as_secs_f64(), cpu_ms: (cpu_of_children()? - spent) / count })
}

fn runs_one(runtime: &Runtime, bundles: &Bundles, worker: usize, round: usize) -> bool {
    let id = format!("worker-{worker}-{round}");
    let status = runtime.command(&[], &["run", "--bundle", &bundles.path("true"), &id]).stdout(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// How the cost of one command grows with one number.
pub struct Growth {
    /// What is counted, and which command is measured.
    pub title: &'static str,
    /// Each number, with the CPU time of each runtime in milliseconds; none of one that has no such command.
    pub points: Vec<(usize, Vec<Option<f64>>)>,
}

/// How cost grows: with the host's mounts, with devices, with rules of seccomp, with containers alive.
pub fn growth(options: &Options, bundles: &Bundles) -> Outcome<Vec<Growth>> {
    let run = ["run", "--bundle"];
    let mut all = vec![with_mounts(options, bundles)?];
    let mut points = Vec::new();
    for count in [0, 32, 128] {
        bundles.write("true-devices", |config| {
            let device = |number| json!({"path": format!("/dev/d{number}"), "type": "c", "major": 1, "minor": 3});
            config["linux"]["devices"] = (0..count).map(device).collect();
        })?;
        points.push((count, cpu(options, &[run[0], run[1], &bundles.path("true-devices")])?));
    }
    all.push(Growth { title: "run, by devices", points });
    let names = bundles.config()["linux"]["seccomp"]["syscalls"][0]["names"].as_array().cloned().unwrap_or_default();
    let mut points = Vec::new();
    for count in [0, 50, names.len()] {
        bundles.write("true-seccomp", |config| {
            config["linux"]["seccomp"]["syscalls"] = if count == 0 { json!([]) } else { rules(&names[..count]) };
            config["linux"]["seccomp"]["defaultAction"] = json!("SCMP_ACT_LOG");
            config["linux"]["seccomp"]["defaultErrnoRet"] = Value::Null;
        })?;
        points.push((count, cpu(options, &[run[0], run[1], &bundles.path("true-seccomp")])?));
    }
    all.push(Growth { title: "run, by system calls that seccomp names", points });
    all.push(with_containers(options, bundles)?);
    Ok(all)
}

fn rules(names: &[Value]) -> Value {
    json!([{ "names": names, "action": "SCMP_ACT_ALLOW" }])
}

/// The CPU time of a command of each runtime, a new id at its end each time.
fn cpu(options: &Options, arguments: &[&str]) -> Outcome<Vec<Option<f64>>> {
    let mut all = vec![Vec::new(); options.runtimes.len()];
    for round in 0..options.runs.min(10) + 1 {
        for index in turns(round, options.runtimes.len()) {
            let id = format!("growth-{round}");
            let mut words = arguments.to_vec();
            words.push(&id);
            let cost = options.runtimes[index].cost(&words)?;
            if round > 0 {
                all[index].push(cost.cpu_ms);
            }
        }
    }
    Ok(all.into_iter().map(|costs| Some(median(costs))).collect())
}

/// The host has more and more mounts.
fn with_mounts(options: &Options, bundles: &Bundles) -> Outcome<Growth> {
    let top = bundles.scratch("mounts");
    // What berth keeps on a host with many mounts (docs/mount-namespace.md) is not left on one with few.
    let kept = std::path::Path::new("/run/berth.mntns");
    let was_kept = kept.exists();
    std::fs::create_dir_all(&top)?;
    mount(Some("bench"), &top, Some("tmpfs"), MsFlags::empty(), None::<&str>)?;
    let (mut made, mut points) = (0, Vec::new());
    for count in [50, 500, 3000] {
        while made < count {
            let place = top.join(made.to_string());
            std::fs::create_dir(&place)?;
            mount(Some("bench"), &place, Some("tmpfs"), MsFlags::empty(), None::<&str>)?;
            made += 1;
        }
        points.push((count, cpu(options, &["run", "--bundle", &bundles.path("true")])?));
    }
    umount2(&top, MntFlags::MNT_DETACH)?;
    if !was_kept {
        let _ = umount2(&kept.join("own"), MntFlags::MNT_DETACH);
        let _ = std::fs::remove_dir_all(kept);
    }
    Ok(Growth { title: "run, by mounts of the host", points })
}

/// More and more containers are alive.
fn with_containers(options: &Options, bundles: &Bundles) -> Outcome<Growth> {
    let pid_file = bundles.scratch("pid");
    let file = pid_file.to_string_lossy();
    // The floor makes containers and cannot list them.
    let lists = |runtime: &Runtime| runtime.name != "floor";
    let (mut pids, mut points, mut alive) = (Vec::new(), Vec::new(), 0);
    for count in [10, 100, 300] {
        for number in alive..count {
            for runtime in options.runtimes.iter().filter(|runtime| lists(runtime)) {
                let id = format!("alive-{number}");
                runtime.cost(&["create", "--bundle", &bundles.path("pause"), "--pid-file", &file, &id])?;
                pids.push((pid_in(&pid_file)?, runtime, id));
            }
        }
        alive = count;
        let mut row = Vec::new();
        for runtime in &options.runtimes {
            if !lists(runtime) {
                row.push(None);
                continue;
            }
            let costs: Outcome<Vec<Cost>> = (0..options.runs.min(10)).map(|_| runtime.cost(&["list"])).collect();
            row.push(Some(median(costs?.iter().map(|cost| cost.cpu_ms).collect())));
        }
        points.push((count, row));
    }
    for (_, runtime, id) in &pids {
        runtime.command(&[], &["delete", "--force", id]).status()?;
    }
    pids.iter().for_each(|(pid, ..)| reap(*pid));
    Ok(Growth { title: "list, by containers alive", points })
}
