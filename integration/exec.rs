// SPDX-License-Identifier: Apache-2.0
//! `exec`: which process it makes, where, with what rights; what it leaves open; how it ends.

use std::fs;

use nix::sys::signal::Signal;
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::harness::bundle::{folder, wait_orphan};
use crate::harness::look::{self, eventually};
use crate::harness::receive::Receiver;
use crate::harness::{Bundle, Call, Container, Need, Output, Test};
use crate::test;

/// This file's tests.
pub const TESTS: &[Test] = &[
    test!(output_and_status),
    test!(status_of_a_killed_program),
    test!(in_a_created_container),
    test!(into_all_namespaces),
    test!(into_the_containers_cgroup).needs(&[Need::Cgroup2]),
    test!(into_a_cgroup_below).needs(&[Need::Cgroup2]),
    test!(texts_of_cgroups_below).needs(&[Need::Cgroup2]).differs(&[("crun", "says it in other words")]),
    test!(words_change_user_directory_and_environment)
        .differs(&[("runc", "refuses a flag in two spellings"), ("crun", "has no --additional-gids")]),
    test!(user_must_be_mapped).differs(&[("runc", "says it in other words"), ("crun", "says it in other words")]),
    test!(user_must_be_numbers).differs(&[("crun", "takes what strtol leaves")]),
    test!(capabilities_are_added_but_never_inheritable),
    test!(no_new_privileges),
    test!(process_file_is_honoured),
    test!(process_file_sets_the_umask).differs(&[("runc", "takes the container's umask")]),
    test!(process_file_sets_the_oom_score)
        .differs(&[("runc", "takes the container's oomScoreAdj"), ("crun", "takes the container's oomScoreAdj")]),
    test!(process_file_sets_the_scheduler),
    test!(process_file_is_read_before_the_command_ends),
    test!(labels_without_their_module_are_refused)
        .differs(&[("runc", "passes the SELinux label over"), ("crun", "passes them over")]),
    test!(cpu_affinity).differs(&[("runc", "has at most 1024 CPUs"), ("crun", "writes beyond its memory for many CPUs")]),
    test!(the_runtime_keeps_its_own_oom_score),
    test!(detached_with_a_pid_file),
    test!(pid_file_is_absent_after_a_failure),
    test!(terminal_on_a_console_socket),
    test!(terminal_from_the_process_file_alone),
    test!(terminal_misuse),
    test!(pidfd_socket).differs(&[("crun", "has no --pidfd-socket"), ("runc", "Debian's build may be older than the flag")]),
    test!(preserved_descriptors).differs(&[
        ("runc", "takes descriptors of its own for the caller's, and passes those on"),
        ("crun", "passes over those that are not open"),
    ]),
    test!(nothing_of_the_host_stays_open),
    test!(missing_working_directory),
    test!(missing_program).differs(&[("crun", "says of a file without execute permission that the operation is not permitted")]),
    test!(own_failures_are_255).differs(&[("crun", "ends with 1")]),
    test!(stopped_and_unknown_containers).differs(&[("crun", "says it in other words")]),
    test!(paused_container).needs(&[Need::Cgroup2]).differs(&[("crun", "has no --ignore-paused")]),
    test!(flags_of_the_program_are_its_own),
    test!(signals_are_passed_on),
    test!(many_at_once),
    test!(exec_beside_delete).differs(&[("runc", "may give up waiting: container init still running")]),
    test!(seccomp_filter_holds),
    test!(bundle_may_be_gone).differs(&[("runc", "reads the bundle again")]),
];

fn sleeper() -> Container {
    running(&Bundle::args(&["/bin/sleep", "1000"]))
}

fn running(bundle: &Bundle) -> Container {
    let container = bundle.create();
    container.start();
    container
}

/// `exec FLAGS… ID WORDS…` in a container.
#[track_caller]
fn exec(container: &Container, flags: &[&str], words: &[&str]) -> Output {
    Call::new(&[&["exec"], flags, &[container.id.as_str()], words].concat()).output()
}

#[track_caller]
fn sh(container: &Container, flags: &[&str], script: &str) -> String {
    exec(container, flags, &["/bin/sh", "-c", script]).ok()
}

/// Runs a process file: one like the container's own with this script, changed by `change`.
#[track_caller]
fn exec_file(bundle: &Bundle, container: &Container, script: &str, change: &[(&str, Value)]) -> Output {
    let mut process = bundle.config["process"].clone();
    process["args"] = json!(["/bin/sh", "-c", script]);
    process["terminal"] = json!(false);
    for (name, value) in change {
        process[*name] = value.clone();
    }
    let file = folder().join("process.json");
    fs::write(&file, process.to_string()).unwrap();
    exec(container, &["--process", file.to_str().unwrap()], &[])
}

fn output_and_status() {
    let container = sleeper();
    let output = exec(&container, &[], &["/bin/sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!((output.stdout.as_str(), output.stderr.as_str(), output.code()), ("out\n", "err\n", 7));
}

fn status_of_a_killed_program() {
    let container = sleeper();
    assert_eq!(exec(&container, &[], &["/bin/sh", "-c", "kill -KILL $$"]).code(), 128 + 9);
    assert_eq!(exec(&container, &[], &["/bin/sh", "-c", "kill -TERM $$"]).code(), 128 + 15);
}

fn in_a_created_container() {
    let container = Bundle::sh("touch /ran").create();
    assert_eq!(sh(&container, &[], "ls /ran 2>/dev/null; echo in"), "in\n");
    assert_eq!(container.status(), "created");
}

fn into_all_namespaces() {
    let container = sleeper();
    let own = |pid: &str, kind: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap().to_str().unwrap().to_owned();
    let kinds = ["pid", "mnt", "ipc", "uts", "net", "cgroup"];
    let script = kinds.map(|kind| format!("readlink /proc/self/ns/{kind};")).concat();
    let inside = sh(&container, &[], &script);
    let pid = container.pid().to_string();
    let expected: Vec<String> = kinds.iter().map(|kind| own(&pid, kind)).collect();
    assert_eq!(inside.lines().collect::<Vec<_>>(), expected);
}

fn into_the_containers_cgroup() {
    let container = sleeper();
    let _process = exec_detached(&container, &[], &["/bin/sleep", "1000"]);
    let pids = cgroup_pids(&container, "");
    assert_eq!(pids.len(), 2, "{pids:?}");
    let listed: Vec<i32> = serde_json::from_str(&container.call(&["ps", "--format", "json"]).output().ok()).unwrap();
    assert_eq!(listed, pids);
}

fn cgroup_pids(container: &Container, below: &str) -> Vec<i32> {
    let file = format!("/sys/fs/cgroup{}{below}/cgroup.procs", look::cgroup(container.pid()));
    let mut pids: Vec<i32> = fs::read_to_string(file).unwrap().lines().map(|line| line.parse().unwrap()).collect();
    pids.sort_unstable();
    pids
}

fn into_a_cgroup_below() {
    let container = sleeper();
    let dir = format!("/sys/fs/cgroup{}/below", look::cgroup(container.pid()));
    fs::create_dir(&dir).unwrap();
    let _process = exec_detached(&container, &["--cgroup", "below"], &["/bin/sleep", "1000"]);
    assert_eq!(cgroup_pids(&container, "/below").len(), 1);
    let text = exec(&container, &["--cgroup", "missing"], &["/bin/true"]).fails();
    assert!(text.to_lowercase().contains("no such file or directory"), "{text}");
    exec(&container, &["--cgroup", "../.."], &["/bin/true"]).fails();
}

/// In runc's words, for scripts.
fn texts_of_cgroups_below() {
    let container = sleeper();
    for (path, text) in [
        ("missing", " adding pid "),
        ("..", ".. is not a sub cgroup path"),
        ("nonsense:below", "unknown controller nonsense in SubCgroupPaths"),
    ] {
        let said = exec(&container, &["--cgroup", path], &["true"]).fails();
        assert!(said.contains(text), "{path}: {said}");
    }
}

fn words_change_user_directory_and_environment() {
    let mut bundle = Bundle::args(&["/bin/sleep", "1000"]);
    bundle.set("/process/env", json!(["PATH=/bin", "OWN=1", "TWICE=1"])).set("/process/terminal", json!(false));
    let container = running(&bundle);
    let flags =
        ["--user", "1000:100", "--additional-gids", "7", "-g", "8", "--cwd", "/tmp", "--env", "TWICE=2", "--env", "MORE=3"];
    let said = sh(&container, &flags, "id -u; id -g; id -G; pwd; echo $OWN $TWICE $MORE $HOME");
    assert_eq!(said, "1000\n100\n100 7 8\n/tmp\n1 2 3 /home\n");
    assert_eq!(sh(&container, &["-u", "5"], "id -u; id -g"), "5\n0\n");
}

/// Told by the id, whoever knows the mappings: the configuration, or, of a namespace that was joined, the kernel alone.
fn user_must_be_mapped() {
    let mut bundle = Bundle::args(&["/bin/sleep", "1000"]);
    bundle.user_namespace(&[(0, 100_000, 1000)]);
    let maker = running(&bundle);
    assert_eq!(sh(&maker, &["-u", "999:999"], "id -u"), "999\n");
    for (flag, value, at) in [("-u", "5000", "user.uid"), ("-u", "5:5000", "user.gid"), ("-g", "5000", "user.additionalGids[0]")]
    {
        let said = exec(&maker, &[flag, value], &["/bin/true"]).fails();
        let words = ["5000 is not an id of the container: linux.", "does not map it", at, "--user and --additional-gids"];
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
    }
    let mut bundle = Bundle::args(&["/bin/sleep", "1000"]);
    bundle.namespace("user", Some(&format!("/proc/{}/ns/user", maker.pid())));
    let joiner = running(&bundle);
    assert_eq!(sh(&joiner, &["-u", "999:999"], "id -u"), "999\n");
    let said = exec(&joiner, &["-u", "5000"], &["/bin/true"]).fails();
    assert!(said.contains("user 5000 is not an id of the container"), "{said}");
    let said = exec(&joiner, &["-u", "5:5000"], &["/bin/true"]).fails();
    assert!(said.contains("cannot become user 5:5000") && said.contains("must be mapped"), "{said}");
    for container in [&maker, &joiner] {
        let left: Vec<i32> = serde_json::from_str(&Call::new(&["ps", "--format", "json", &container.id]).output().ok()).unwrap();
        assert_eq!(left, [container.pid()]);
    }
}

fn user_must_be_numbers() {
    let container = sleeper();
    for user in ["root", "0:root", "0x1", "1:2:3", "-1"] {
        assert_eq!(exec(&container, &[&format!("--user={user}")], &["/bin/true"]).code(), 255, "{user}");
    }
}

fn capabilities_are_added_but_never_inheritable() {
    let mut bundle = Bundle::args(&["/bin/sleep", "1000"]);
    bundle.set("/process/capabilities", json!({ "bounding": [], "effective": [], "permitted": [] }));
    let container = running(&bundle);
    let sets = |flags: &[&str]| {
        let said = sh(&container, flags, "cat /proc/self/status");
        ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"].map(|name| {
            let line = said.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim_start_matches([':', '\t']).to_owned();
            u64::from_str_radix(&line, 16).unwrap()
        })
    };
    assert_eq!(sets(&[]), [0; 5]);
    let kill = 1 << 5;
    assert_eq!(sets(&["--cap", "CAP_KILL"]), [0, kill, kill, kill, 0]);
}

fn no_new_privileges() {
    let mut bundle = Bundle::args(&["/bin/sleep", "1000"]);
    bundle.set("/process/noNewPrivileges", json!(false));
    let container = running(&bundle);
    let said = |flags: &[&str]| look::status_field(&sh(&container, flags, "cat /proc/self/status"), "NoNewPrivs");
    assert_eq!(said(&[]), "0");
    assert_eq!(said(&["--no-new-privs"]), "1");
}

fn process_file_is_honoured() {
    let bundle = Bundle::args(&["/bin/sleep", "1000"]);
    let container = running(&bundle);
    let change = [
        ("cwd", json!("/home")),
        ("env", json!(["PATH=/bin", "FILE=yes"])),
        ("user", json!({ "uid": 1000, "gid": 1000, "additionalGids": [5] })),
        ("rlimits", json!([{ "type": "RLIMIT_NOFILE", "soft": 77, "hard": 77 }])),
        ("capabilities", json!({ "bounding": ["CAP_KILL"] })),
    ];
    let said =
        exec_file(&bundle, &container, "pwd; echo $FILE; id -u; id -G; ulimit -n; grep CapBnd /proc/self/status", &change).ok();
    assert_eq!(said, "/home\nyes\n1000\n1000 5\n77\nCapBnd:\t0000000000000020\n");
}

fn process_file_sets_the_umask() {
    let bundle = Bundle::args(&["/bin/sleep", "1000"]);
    let container = running(&bundle);
    let user = json!({ "uid": 0, "gid": 0, "umask": 0o027 });
    assert_eq!(exec_file(&bundle, &container, "umask", &[("user", user)]).ok(), "0027\n");
}

fn process_file_sets_the_oom_score() {
    let mut bundle = Bundle::args(&["/bin/sleep", "1000"]);
    bundle.set("/process/oomScoreAdj", json!(300));
    let container = running(&bundle);
    assert_eq!(sh(&container, &[], "cat /proc/self/oom_score_adj"), "300\n");
    let said = exec_file(&bundle, &container, "cat /proc/self/oom_score_adj", &[("oomScoreAdj", json!(555))]).ok();
    assert_eq!(said, "555\n");
}

fn labels_without_their_module_are_refused() {
    let container = Bundle::args(&["/bin/sleep", "1000"]).create();
    container.start();
    for (flag, module) in [("--apparmor", "/sys/module/apparmor"), ("--process-label", "/sys/fs/selinux/enforce")] {
        if std::path::Path::new(module).exists() {
            continue;
        }
        let output = exec(&container, &[flag, "some_t"], &["/bin/true"]);
        assert_eq!(output.code(), 255);
        assert!(output.fails().contains("some_t"));
    }
}

fn process_file_sets_the_scheduler() {
    let bundle = Bundle::args(&["/bin/sleep", "1000"]);
    let container = running(&bundle);
    let change = [
        ("scheduler", json!({ "policy": "SCHED_BATCH", "nice": 5 })),
        ("ioPriority", json!({ "class": "IOPRIO_CLASS_IDLE", "priority": 0 })),
    ];
    let said = exec_file(&bundle, &container, "cut -d' ' -f19,41 /proc/self/stat; ionice -p $$", &change).ok();
    assert!(said.starts_with("5 3\n"), "{said}");
    assert!(said.contains("idle"), "{said}");
}

fn process_file_is_read_before_the_command_ends() {
    let bundle = Bundle::args(&["/bin/sleep", "1000"]);
    let container = running(&bundle);
    let file = folder().join("gone.json");
    let mut process = bundle.config["process"].clone();
    process["args"] = json!(["/bin/sh", "-c", "sleep 0.2; echo late > /tmp/late"]);
    process["terminal"] = json!(false);
    fs::write(&file, process.to_string()).unwrap();
    let _process = exec_detached(&container, &["--process", file.to_str().unwrap()], &[]);
    fs::remove_file(&file).unwrap();
    eventually("the process has run", || bundle.inside("/tmp/late").exists());
}

/// A process that was left to us, its caller's subreaper. While nobody reaps it, the container's pid namespace cannot end.
struct Detached(i32);

impl Drop for Detached {
    fn drop(&mut self) {
        let pid = Pid::from_raw(self.0);
        let _ = nix::sys::signal::kill(pid, Signal::SIGKILL);
        let _ = nix::sys::wait::waitpid(pid, None);
    }
}

/// `exec --detach` with nothing of ours to hold on to.
#[track_caller]
fn exec_detached(container: &Container, flags: &[&str], words: &[&str]) -> Detached {
    let pid_file = folder().join("exec.pid");
    let _ = fs::remove_file(&pid_file);
    let flags = [&["exec", "--detach", "--pid-file", pid_file.to_str().unwrap()], flags].concat();
    let null = || fs::File::options().write(true).open("/dev/null").unwrap();
    let mut child = Call::new(&[&flags, &[container.id.as_str()][..], words].concat()).spawn_with(null(), null());
    assert!(crate::harness::call::wait(&mut child).success());
    let text = fs::read_to_string(pid_file).unwrap();
    Detached(text.parse().unwrap_or_else(|_| panic!("the pid file holds {text:?}")))
}

/// `final` is what the program runs on, else `initial` stays; numbers that the machine does not have say nothing, however large.
fn cpu_affinity() {
    let bundle = Bundle::args(&["/bin/sleep", "1000"]);
    let container = running(&bundle);
    let allowed = |affinity: Value| {
        let said =
            exec_file(&bundle, &container, "grep Cpus_allowed_list /proc/self/status", &[("execCPUAffinity", affinity)]).ok();
        said.split_whitespace().last().unwrap().to_owned()
    };
    let own = look::status_field(&fs::read_to_string("/proc/self/status").unwrap(), "Cpus_allowed_list");
    let last = own.rsplit(['-', ',']).next().unwrap();
    for (affinity, expected) in [
        (json!({ "initial": "0", "final": "0" }), "0"),
        (json!({ "initial": "0" }), "0"),
        (json!({ "initial": "0", "final": last }), last),
        (json!({ "final": format!("{last},5000,65535") }), last),
        (json!({ "initial": format!("{last}"), "final": "0,2000-3000" }), "0"),
        (json!({ "final": "0-65535" }), own.as_str()),
        (json!({}), own.as_str()),
    ] {
        assert_eq!(allowed(affinity.clone()), expected, "{affinity}");
    }
    for wrong in [json!({ "initial": "x" }), json!({ "final": "3-1" }), json!({ "final": "0-65536" }), json!({ "final": "5000" })]
    {
        let output = exec_file(&bundle, &container, "true", &[("execCPUAffinity", wrong.clone())]);
        assert_eq!(output.code(), 255, "{wrong}");
        assert!(output.stderr.contains("execCPUAffinity"), "{wrong}: {output:?}");
    }
}

fn the_runtime_keeps_its_own_oom_score() {
    let mut bundle = Bundle::args(&["/bin/sleep", "1000"]);
    bundle.set("/process/oomScoreAdj", json!(300));
    let container = running(&bundle);
    let mut call = Call::new(&["exec", &container.id, "/bin/sh", "-c", "echo in; sleep 1000"]).spawn();
    call.wait_for("in");
    // The program may have begun before the runtime came to take its own value back.
    let (own, runtimes) = ("/proc/self/oom_score_adj", format!("/proc/{}/oom_score_adj", call.pid()));
    eventually("it has its own value back", || fs::read_to_string(&runtimes).unwrap() == fs::read_to_string(own).unwrap());
    call.signal(Signal::SIGTERM);
    assert_eq!(call.finish().code(), 128 + 15);
}

fn detached_with_a_pid_file() {
    let container = sleeper();
    let process = exec_detached(&container, &[], &["/bin/sh", "-c", "sleep 0.1; exit 3"]);
    let pid = process.0;
    assert_eq!(look::parent(pid), i32::try_from(std::process::id()).unwrap(), "it is left to its caller's subreaper");
    assert_eq!(wait_orphan(pid), WaitStatus::Exited(Pid::from_raw(pid), 3));
}

fn pid_file_is_absent_after_a_failure() {
    let container = sleeper();
    let pid_file = folder().join("pid");
    exec(&container, &["--detach", "--pid-file", pid_file.to_str().unwrap()], &["/missing"]).fails();
    assert!(!pid_file.exists());
}

fn terminal_on_a_console_socket() {
    let container = sleeper();
    let console = Receiver::new("console");
    let pid_file = folder().join("pid");
    let flags = ["--detach", "--tty", "--console-socket", console.path(), "--pid-file", pid_file.to_str().unwrap()];
    // It lets go of our pipes.
    let output = exec(&container, &flags, &["/bin/sh", "-c", "tty; test -t 1 && exec sleep 1000"]);
    assert_eq!(output.ok(), "");
    let _process = Detached(fs::read_to_string(pid_file).unwrap().parse().unwrap());
    let (name, master) = console.receive();
    assert!(!name.is_empty());
    let mut text = [0; 100];
    eventually("the terminal's name is on it", || {
        let length = nix::unistd::read(&master, &mut text).unwrap_or(0);
        String::from_utf8_lossy(&text[..length]).contains("/dev/pts/")
    });
}

fn terminal_from_the_process_file_alone() {
    let mut bundle = Bundle::args(&["/bin/sleep", "1000"]);
    bundle.set("/process/terminal", json!(true));
    let console = Receiver::new("console");
    let container = bundle.create_with(&["--console-socket", console.path()]);
    let _master = console.receive();
    container.start();
    let output = exec(&container, &[], &["/bin/sh", "-c", "test -t 1 || echo none"]);
    assert_eq!(output.ok(), "none\n");
}

fn terminal_misuse() {
    let container = sleeper();
    exec(&container, &["--tty", "--detach"], &["/bin/true"]).fails();
    exec(&container, &["--tty", "--detach", "--console-socket", "/not/there"], &["/bin/true"]).fails();
}

fn pidfd_socket() {
    let container = sleeper();
    let socket = Receiver::new("pidfd");
    let process = exec_detached(&container, &["--pidfd-socket", socket.path()], &["/bin/sleep", "1000"]);
    let (name, fd) = socket.receive();
    assert_eq!(name, "setns");
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", std::os::fd::AsRawFd::as_raw_fd(&fd))).unwrap();
    assert_eq!(look::status_field(&info, "Pid"), process.0.to_string());
}

fn preserved_descriptors() {
    let container = sleeper();
    let words = ["exec", "--preserve-fds", "1", &container.id, "/bin/sh", "-c", "cat <&3; ls /proc/self/fd | wc -l"];
    let runtime = crate::harness::call::runtime();
    let root = crate::harness::bundle::state_root();
    let script = r#"echo given > "$0"; exec 3<"$0" 5<"$0"; exec "$@""#;
    let file = folder().join("given");
    let mut call = vec!["sh", "-c", script, file.to_str().unwrap(), runtime.to_str().unwrap(), "--root", root.to_str().unwrap()];
    call.extend(words);
    // 0, 1, 2, the given one, and the directory that ls reads.
    assert_eq!(Call::program(&call).output().ok(), "given\n5\n");
    let missing = exec(&container, &["--preserve-fds", "3"], &["/bin/true"]);
    assert_ne!(missing.code(), 0);
}

fn nothing_of_the_host_stays_open() {
    let container = sleeper();
    let script =
        "for fd in /proc/self/fd/*; do echo $(basename $fd) $(readlink $fd); done; ls /proc/self/fd/../../../ >/dev/null";
    let said = sh(&container, &[], script);
    let leaked: Vec<&str> = said.lines().filter(|line| !["0 ", "1 ", "2 "].iter().any(|std| line.starts_with(std))).collect();
    assert!(leaked.iter().all(|line| line.contains("/proc/") || !line.contains(' ')), "{said}");
    for number in 3..12 {
        let output = exec(&container, &["--cwd", &format!("/proc/self/fd/{number}")], &["/bin/pwd"]);
        assert_ne!(output.code(), 0, "{output:?}");
    }
}

/// Of create it is made; who writes it at exec has written it wrongly.
fn missing_working_directory() {
    let container = sleeper();
    for path in ["/not/there", "/etc/passwd"] {
        let text = exec(&container, &["--cwd", path], &["true"]).fails();
        assert!(text.contains("chdir to") && text.contains(path) && text.to_lowercase().contains(" directory"), "{text}");
    }
    assert_eq!(exec(&container, &[], &["test", "-e", "/not"]).code(), 1);
}

fn missing_program() {
    let container = sleeper();
    let said = exec(&container, &[], &["nothing-here"]).fails();
    assert!(said.contains("executable file") && said.contains("not found in"), "{said}");
    let said = exec(&container, &[], &["/nothing/here"]).fails();
    assert!(said.to_lowercase().contains("no such file or directory"), "{said}");
    let said = exec(&container, &[], &["/etc/passwd"]).fails();
    assert!(said.to_lowercase().contains("permission denied"), "{said}");
    let said = exec(&container, &["--cwd", "/etc/passwd"], &["/bin/true"]).fails();
    assert!(said.to_lowercase().contains("not a directory"), "{said}");
}

fn own_failures_are_255() {
    let container = sleeper();
    assert_eq!(exec(&container, &[], &["/missing"]).code(), 255);
    assert_eq!(exec(&container, &[], &[]).code(), 255);
    assert_eq!(exec(&container, &["--process", "/not/there"], &[]).code(), 255);
    assert_eq!(Call::new(&["exec", "unknown", "/bin/true"]).output().code(), 255);
}

fn stopped_and_unknown_containers() {
    let container = sleeper();
    container.kill("KILL");
    container.wait_status("stopped");
    let said = exec(&container, &[], &["/bin/true"]).fails();
    assert!(said.contains("cannot exec in a stopped container"), "{said}");
    let said = Call::new(&["exec", "unknown", "/bin/true"]).output().fails();
    assert!(said.contains("does not exist"), "{said}");
}

fn paused_container() {
    let container = sleeper();
    container.call(&["pause"]).output().ok();
    let said = exec(&container, &[], &["/bin/true"]).fails();
    assert!(said.contains("cannot exec in a paused container (use --ignore-paused to override)"), "{said}");
    let waiting = Call::new(&["exec", "--ignore-paused", &container.id, "/bin/echo", "in"]).spawn();
    eventually("the process is in the cgroup", || cgroup_pids(&container, "").len() == 2);
    container.call(&["resume"]).output().ok();
    assert_eq!(waiting.finish().ok(), "in\n");
}

fn flags_of_the_program_are_its_own() {
    let container = sleeper();
    assert_eq!(exec(&container, &[], &["echo", "--env", "-t", "--help", "--", "-x"]).ok(), "--env -t --help -- -x\n");
    assert_eq!(exec(&container, &["-e=A=1", "--cwd=/tmp"], &["pwd"]).ok(), "/tmp\n");
}

fn signals_are_passed_on() {
    let container = sleeper();
    let script = "trap 'echo got; exit 5' USR1; echo ready; while :; do sleep 0.02; done";
    let mut call = Call::new(&["exec", &container.id, "/bin/sh", "-c", script]).spawn();
    call.wait_for("ready");
    call.signal(Signal::SIGUSR1);
    let output = call.finish();
    assert_eq!((output.stdout.as_str(), output.code()), ("ready\ngot\n", 5));
}

fn many_at_once() {
    let container = sleeper();
    let calls: Vec<_> =
        (0..12).map(|n| Call::new(&["exec", &container.id, "/bin/sh", "-c", &format!("exit {n}")]).spawn()).collect();
    for (expected, call) in (0..).zip(calls) {
        assert_eq!(call.finish().code(), expected);
    }
}

fn exec_beside_delete() {
    for _ in 0..5 {
        let container = sleeper();
        let calls: Vec<_> = (0..4).map(|_| Call::new(&["exec", &container.id, "/bin/sleep", "1000"]).spawn()).collect();
        container.call(&["delete", "--force"]).output().ok();
        for call in calls {
            assert_ne!(call.finish().code(), 0);
        }
    }
}

fn seccomp_filter_holds() {
    let mut bundle = Bundle::args(&["/bin/sleep", "1000"]);
    let rule = json!({ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13 });
    bundle.set("/linux/seccomp", json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule] }));
    let container = running(&bundle);
    let said = exec(&container, &[], &["/bin/sh", "-c", "mkdir /tmp/x 2>&1; grep ^Seccomp: /proc/self/status"]).ok();
    assert!(said.contains("Permission denied") && said.contains("Seccomp:\t2"), "{said}");
}

fn bundle_may_be_gone() {
    let bundle = Bundle::args(&["/bin/sleep", "1000"]);
    let container = running(&bundle);
    fs::remove_file(bundle.dir.join("config.json")).unwrap();
    assert_eq!(exec(&container, &[], &["/bin/echo", "in"]).ok(), "in\n");
}
