// SPDX-License-Identifier: Apache-2.0
//! From flags to typed requests: defaults, absolute paths, and what the environment says.

use super::args::{boolean, wanted};
use super::given::Given;
use super::log::{Level, Log, Target};
use crate::container::exec::Wanted;
use crate::error::{Error, Kind, Result};
use crate::plan::exec::ExecRequest;
use crate::plan::exec_process::Words;
use crate::plan::resources::path::SubCgroup;
use crate::plan::{CgroupManager, Id, Request, Rootless, Verb};

/// What the flags before the command say.
#[derive(Clone, Debug)]
pub struct Global {
    /// The state root, absolute.
    pub root: String,
    /// `--root` was given: then it must exist for commands that only read.
    pub root_given: bool,
    /// The cgroup driver.
    pub cgroup_manager: CgroupManager,
    /// `--rootless`
    pub rootless: Rootless,
}

/// The environment, as far as it is asked: a function from names to values.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Who is asking, as far as defaults depend on it.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    /// Effective user id.
    pub euid: u32,
    /// Whether it is in the initial user namespace: to ask for it takes some system calls.
    pub initial_user_namespace: fn() -> bool,
    /// Its process id, which few ask for.
    pub pid: fn() -> i32,
}

/// Where messages go.
pub fn log(global: &Given) -> Result<Log> {
    let json = match global.text("log-format").unwrap_or("text") {
        "text" => false,
        "json" => true,
        other => return Err(usage(format!("invalid log-format: {}: it is neither text nor json", other.escape_debug()))),
    };
    let target = Target::parse(global.text("log").unwrap_or_default());
    // Engines read a log file as one error and nothing else; a person is told of warnings.
    let named = global.text("log-level").unwrap_or(if target == Target::Stderr { "warning" } else { "error" });
    let level = Level::parse(named).ok_or_else(|| usage(format!("--log-level: \"{named}\" is not error, warning or debug")))?;
    let level = if global.on("debug") { Level::Debug } else { level };
    Ok(Log { target, json, level })
}

/// The flags before the command, with their defaults.
pub fn global(given: &Given, caller: Caller, env: Environment<'_>) -> Result<Global> {
    let cgroup_manager = match given.text("cgroup-manager") {
        Some("cgroupfs") => CgroupManager::Cgroupfs,
        Some("systemd") => CgroupManager::Systemd,
        Some("disabled") => CgroupManager::Disabled,
        Some(other) => return Err(usage(format!("--cgroup-manager: \"{other}\" is not cgroupfs, systemd or disabled"))),
        None if given.on("systemd-cgroup") => CgroupManager::Systemd,
        None => CgroupManager::Cgroupfs,
    };
    let rootless = match given.text("rootless") {
        None => Rootless::Unsaid,
        Some("auto") => Rootless::Auto,
        Some(word) if boolean(word).is_ok_and(|word| word == "true") => Rootless::True,
        Some(word) if boolean(word).is_ok() => Rootless::False,
        Some(other) => return Err(usage(format!("--rootless: \"{other}\" is not true, false or auto"))),
    };
    let root_given = given.text("root").is_some();
    let root = match given.text("root") {
        Some("") => return Err(usage("--root: the path is empty")),
        Some(path) => absolute(path)?,
        None => default_root(caller, env),
    };
    if root == "/" {
        return Err(usage("--root: / is the root of the file system, not a place for state"));
    }
    Ok(Global { root, root_given, cgroup_manager, rootless })
}

/// `/run/berth`, or `$XDG_RUNTIME_DIR/berth` for an ordinary user, and for one who is root only in a user namespace of its own.
pub fn default_root(caller: Caller, env: Environment<'_>) -> String {
    let borrowed_root =
        || caller.euid == 0 && !(caller.initial_user_namespace)() && env("USER").is_none_or(|user| user != "root");
    let runtime_dir = env("XDG_RUNTIME_DIR").filter(|path| !path.is_empty());
    match runtime_dir {
        Some(dir) if caller.euid != 0 || borrowed_root() => format!("{}/berth", dir.trim_end_matches('/')),
        _ if caller.euid != 0 => format!("/run/user/{}/berth", caller.euid),
        _ => "/run/berth".to_string(),
    }
}

/// The id of a command.
pub fn id(args: &Given, program: &str, verb: &str) -> Result<Id> {
    words_of_id(args, program, verb).and_then(Id::parse)
}

/// What stands in the place of the id.
pub fn words_of_id<'a>(args: &'a Given, program: &str, verb: &str) -> Result<&'a str> {
    match args.text("id") {
        Some(words) => Ok(words),
        None => {
            let wanted = super::args::verb(verb).map_or("exactly 1", |verb| wanted(&verb, true));
            Err(usage(format!("{program}: \"{verb}\" requires {wanted} argument(s): the container's id"))
                .hint(format!("`{program} {verb} --help`")))
        }
    }
}

/// A request for create or run (or for a plan of them).
pub fn make(verb: Verb, id: Id, args: &Given, global: &Global, caller: Caller, env: Environment<'_>) -> Result<Request> {
    let given = |name: &str| args.text(name);
    let switch = |name: &str| given(name) == Some("true");
    let path = |name: &str| given(name).filter(|path| !path.is_empty()).map(absolute).transpose();
    Ok(Request {
        verb,
        id,
        bundle: absolute(given("bundle").unwrap_or("."))?,
        config: path("config")?,
        root: global.root.clone(),
        console_socket: path("console-socket")?,
        pidfd_socket: path("pidfd-socket")?,
        pid_file: path("pid-file")?,
        preserve_fds: preserve_fds(args)?,
        listen_fds: listen_fds(caller, env),
        notify_socket: env("NOTIFY_SOCKET").filter(|path| !path.is_empty()),
        no_pivot: switch("no-pivot"),
        no_new_keyring: switch("no-new-keyring"),
        detach: verb == Verb::Create || switch("detach"),
        keep: switch("keep"),
        no_subreaper: switch("no-subreaper"),
        cgroup_manager: global.cgroup_manager,
        rootless: global.rootless,
    })
}

/// A request for exec, and the process that it is about.
pub fn exec(args: &Given, caller: Caller, env: Environment<'_>) -> Result<(ExecRequest, Wanted)> {
    let path = |name: &str| args.text(name).filter(|path| !path.is_empty()).map(absolute).transpose();
    let listen_fds = listen_fds(caller, env);
    let cgroups = args.all("cgroup").iter().map(|word| SubCgroup::parse(word).map_err(|problem| usage(problem.rule)));
    let request = ExecRequest {
        inherited_fds: listen_fds + preserve_fds(args)?,
        listen_fds,
        console_socket: path("console-socket")?,
        pidfd_socket: path("pidfd-socket")?,
        pid_file: path("pid-file")?,
        detach: args.on("detach"),
        ignore_paused: args.on("ignore-paused"),
        cgroups: cgroups.collect::<Result<_>>()?,
    };
    if let Some(file) = args.text("process") {
        return Ok((request, Wanted::File(file.to_string())));
    }
    let words = Words {
        args: args.all("rest").to_vec(),
        cwd: args.text("cwd").filter(|path| !path.is_empty()).map(String::from),
        env: args.all("env").to_vec(),
        user: args.text("user").filter(|user| !user.is_empty()).map(user).transpose()?,
        additional_gids: args
            .all("additional-gids")
            .to_vec()
            .iter()
            .flat_map(|word| word.split(','))
            .map(|word| number("--additional-gids", word))
            .collect::<Result<_>>()?,
        tty: args.on("tty"),
        capabilities: args.all("cap").to_vec(),
        no_new_privileges: args.text("no-new-privs").map(|word| word == "true"),
        apparmor_profile: args.text("apparmor").map(String::from),
        selinux_label: args.text("process-label").map(String::from),
    };
    if words.args.is_empty() {
        return Err(
            usage("process args cannot be empty").hint("name the program after the container's id, or use --process FILE")
        );
    }
    Ok((request, Wanted::Words(words)))
}

/// `--user UID[:GID]`: decimal numbers and nothing else. A name would have to be looked up in files of the image, which may lie.
fn user(text: &str) -> Result<(u32, Option<u32>)> {
    let (uid, gid) = text.split_once(':').map_or((text, None), |(uid, gid)| (uid, Some(gid)));
    Ok((number("--user", uid)?, gid.map(|gid| number("--user", gid)).transpose()?))
}

fn number(flag: &str, word: &str) -> Result<u32> {
    let digits = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    // (uid_t)-1 means "unchanged" to the kernel.
    match word.parse::<u32>() {
        Ok(number) if digits && number != u32::MAX => Ok(number),
        _ => Err(usage(format!("{flag}: \"{}\" is not a number from 0 to 4294967294", word.escape_debug()))
            .hint("names are not looked up; the container's /etc/passwd has the numbers")),
    }
}

fn preserve_fds(args: &Given) -> Result<u32> {
    match args.text("preserve-fds") {
        None => Ok(0),
        Some(number) => match number.parse::<u32>() {
            Ok(count) if count < 1 << 20 => Ok(count),
            _ => Err(usage(format!("--preserve-fds: \"{number}\" is not a number of descriptors"))),
        },
    }
}

/// How many descriptors the service manager passes: those that are meant for us (sd_listen_fds(3)).
fn listen_fds(caller: Caller, env: Environment<'_>) -> u32 {
    let listens = env("LISTEN_PID").is_some_and(|pid| pid == (caller.pid)().to_string());
    let count = env("LISTEN_FDS").filter(|_| listens).and_then(|count| count.parse().ok());
    count.filter(|count| *count < 1 << 20).unwrap_or(0)
}

/// The path from `/` on, cleaned of `.` and `..` as text: relative ones are seen from the working directory.
pub fn absolute(path: &str) -> Result<String> {
    let full = match path.strip_prefix('/') {
        Some(_) => path.to_string(),
        None => {
            let here = std::env::current_dir().map_err(|error| usage(format!("the working directory is gone: {error}")))?;
            format!("{}/{path}", here.to_string_lossy())
        }
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in full.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            other => parts.push(other),
        }
    }
    Ok(format!("/{}", parts.join("/")))
}

fn usage(text: impl Into<String>) -> Error {
    Error::new(Kind::Usage, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(euid: u32, initial: bool, vars: &[(&str, &str)]) -> String {
        let env = |name: &str| vars.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_string());
        let initial_user_namespace = if initial { || true } else { || false };
        default_root(Caller { euid, initial_user_namespace, pid: || 1 }, &env)
    }

    #[test]
    fn where_state_is_kept() {
        assert_eq!(root(0, true, &[("XDG_RUNTIME_DIR", "/x")]), "/run/berth");
        assert_eq!(root(1000, true, &[("XDG_RUNTIME_DIR", "/x/")]), "/x/berth");
        assert_eq!(root(1000, true, &[("XDG_RUNTIME_DIR", "")]), "/run/user/1000/berth");
        assert_eq!(root(0, false, &[("XDG_RUNTIME_DIR", "/x"), ("USER", "me")]), "/x/berth");
        assert_eq!(root(0, false, &[("XDG_RUNTIME_DIR", "/x"), ("USER", "root")]), "/run/berth");
    }

    #[test]
    fn users_are_numbers() {
        assert_eq!(user("1000:100"), Ok((1000, Some(100))));
        assert_eq!(user("0"), Ok((0, None)));
        for bad in ["root", "", "1:", ":1", "+1", "-1", "1:2:3", "4294967295", "0x1", " 1"] {
            assert!(user(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn paths_are_made_absolute_as_text() {
        assert_eq!(absolute("/a//b/./../c/").unwrap(), "/a/c");
        assert_eq!(absolute("/../..").unwrap(), "/");
        assert!(absolute("x").unwrap().ends_with("/x"));
    }
}
