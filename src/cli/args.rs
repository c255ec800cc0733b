// SPDX-License-Identifier: Apache-2.0
//! Every flag of the command line, as one table: the source of parsing and of the help texts (and of man pages and completions).
//!
//! The grammar is runc's, because engines send it: `--flag value` and `--flag=value`, single-dash long flags (`-bundle`), repeated
//! flags of which the last wins, flags after the id. Only the chosen command is handed to clap, which keeps a start cheap.

use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::error::{Error, Kind, Result};

/// One flag.
pub struct Flag {
    /// Long name.
    pub name: &'static str,
    /// Short name.
    pub short: Option<char>,
    /// Name of its value; none for a switch.
    pub value: Option<&'static str>,
    /// Each use counts, instead of the last.
    pub repeats: bool,
    /// Accepted for the sake of clients, not shown.
    pub hidden: bool,
    /// What help says.
    pub help: &'static str,
}

const fn switch(name: &'static str, short: Option<char>, help: &'static str) -> Flag {
    Flag { name, short, value: None, repeats: false, hidden: false, help }
}
const fn value(name: &'static str, short: Option<char>, value: &'static str, help: &'static str) -> Flag {
    Flag { name, short, value: Some(value), repeats: false, hidden: false, help }
}
const fn hidden(flag: Flag) -> Flag {
    Flag { name: flag.name, short: flag.short, value: flag.value, repeats: flag.repeats, hidden: true, help: flag.help }
}

/// How a command takes what is not a flag.
pub enum Positional {
    /// Nothing.
    None,
    /// `CONTAINER-ID`
    Id,
    /// `CONTAINER-ID`, then optional words of this name.
    IdAnd(&'static str),
    /// `CONTAINER-ID`, then everything verbatim, flags too.
    IdAndCommand(&'static str),
}

/// One command.
pub struct Verb {
    /// Its name.
    pub name: &'static str,
    /// What help says.
    pub help: &'static str,
    /// What is not a flag.
    pub positional: Positional,
    /// Its flags.
    pub flags: &'static [Flag],
}

/// The flags before the command.
pub const GLOBAL: &[Flag] = &[
    value(
        "root",
        None,
        "DIR",
        "where the state of containers is kept [default: /run/berth, or $XDG_RUNTIME_DIR/berth when rootless]",
    ),
    value("log", None, "FILE", "append messages to this file instead of writing them to stderr"),
    value("log-format", None, "FORMAT", "text or json [default: text]"),
    value("log-level", None, "LEVEL", "error, warning or debug [default: warning, with --log error]"),
    switch("debug", None, "the same as --log-level debug"),
    switch("systemd-cgroup", None, "use systemd for cgroups; cgroupsPath is then slice:prefix:name"),
    value("cgroup-manager", None, "MANAGER", "cgroupfs, systemd or disabled [default: cgroupfs]"),
    value("rootless", None, "BOOL", "pass over cgroup failures as an ordinary user must: true, false or auto [default: auto]"),
    hidden(value("criu", None, "PATH", "accepted and ignored")),
];

const BUNDLE: Flag = value("bundle", Some('b'), "DIR", "the bundle's directory [default: .]");
const CONSOLE_SOCKET: Flag = value("console-socket", None, "SOCKET", "send the terminal's master to this unix socket");
const PIDFD_SOCKET: Flag = value("pidfd-socket", None, "SOCKET", "send a pidfd of the process to this unix socket");
const PID_FILE: Flag = value("pid-file", None, "FILE", "write the process id to this file");
const NO_PIVOT: Flag = switch("no-pivot", None, "do not use pivot_root(2), for a root filesystem on a ramdisk");
const NO_NEW_KEYRING: Flag = switch("no-new-keyring", None, "do not make a session keyring for the container");
const PRESERVE_FDS: Flag = value("preserve-fds", None, "N", "pass N more descriptors after the standard streams");

/// Every command.
pub const VERBS: &[Verb] = &[
    Verb {
        name: "create",
        help: "create a container from a bundle; its program waits for start",
        positional: Positional::Id,
        flags: &[
            BUNDLE,
            CONSOLE_SOCKET,
            PIDFD_SOCKET,
            PID_FILE,
            NO_PIVOT,
            NO_NEW_KEYRING,
            PRESERVE_FDS,
            hidden(switch("no-subreaper", None, "accepted and ignored")),
        ],
    },
    Verb {
        name: "run",
        help: "create a container and start it",
        positional: Positional::Id,
        flags: &[
            BUNDLE,
            CONSOLE_SOCKET,
            PIDFD_SOCKET,
            PID_FILE,
            NO_PIVOT,
            NO_NEW_KEYRING,
            PRESERVE_FDS,
            switch("detach", Some('d'), "do not wait for the container to end"),
            switch("keep", None, "do not delete the container when it has ended"),
            switch("no-subreaper", None, "do not become the reaper of the container's orphans"),
        ],
    },
    Verb { name: "start", help: "start the program of a created container", positional: Positional::Id, flags: &[] },
    Verb { name: "state", help: "print the state of a container as JSON", positional: Positional::Id, flags: &[] },
    Verb {
        name: "kill",
        help: "send a signal to a container's first process [default: SIGTERM]",
        positional: Positional::IdAnd("SIGNAL"),
        flags: &[switch("all", Some('a'), "send it to every process of the container")],
    },
    Verb {
        name: "delete",
        help: "delete what a container holds",
        positional: Positional::Id,
        flags: &[switch("force", Some('f'), "kill it first if it runs; no error if there is none")],
    },
    Verb {
        name: "list",
        help: "list the containers",
        positional: Positional::None,
        flags: &[value("format", Some('f'), "FORMAT", "table or json [default: table]"), switch("quiet", Some('q'), "ids only")],
    },
    Verb { name: "pause", help: "freeze every process of a container", positional: Positional::Id, flags: &[] },
    Verb { name: "resume", help: "let a paused container go on", positional: Positional::Id, flags: &[] },
    Verb {
        name: "ps",
        help: "list the processes of a container",
        positional: Positional::IdAndCommand("PS-OPTION"),
        flags: &[value("format", Some('f'), "FORMAT", "table or json [default: table]")],
    },
    Verb { name: "features", help: "print what this program can do, as JSON", positional: Positional::None, flags: &[] },
    Verb {
        name: "spec",
        help: "write a config.json to begin with",
        positional: Positional::None,
        flags: &[
            value("bundle", Some('b'), "DIR", "where to write it [default: .]"),
            switch("rootless", None, "for an ordinary user"),
        ],
    },
    Verb {
        name: "plan",
        help: "print, in order, what creating a container would do",
        positional: Positional::None,
        flags: &[
            BUNDLE,
            value("console-socket", None, "SOCKET", "as for create"),
            switch("no-pivot", None, "as for create"),
            switch("no-new-keyring", None, "as for create"),
            value("preserve-fds", None, "N", "as for create"),
        ],
    },
];

/// The command of this name.
pub fn verb(name: &str) -> Option<&'static Verb> {
    VERBS.iter().find(|verb| verb.name == name)
}

/// What a command line says: the flags before the command, and the command with its own.
pub struct Invocation {
    /// Flags before the command.
    pub global: ArgMatches,
    /// The command.
    pub verb: &'static Verb,
    /// Its flags and words.
    pub args: ArgMatches,
}

/// What came of a command line.
pub enum Parsed {
    /// A command to carry out.
    Run(Box<Invocation>),
    /// Text that was asked for (help, version), for stdout.
    Print(String),
}

/// Splits and parses a command line, without the program's name.
pub fn parse(program: &str, words: Vec<String>) -> Result<Parsed> {
    let at = command_position(&words);
    let (before, after) = words.split_at(at.min(words.len()));
    if before.iter().any(|word| word == "--version" || word == "-v") {
        return Ok(Parsed::Print(version(program)));
    }
    let global_words = normalise(before, GLOBAL, before.len());
    let asks_help = before.iter().any(|word| ["-h", "--help", "-help"].contains(&word.as_str()));
    let Some(name) = after.first().filter(|_| !asks_help).map(String::as_str).filter(|name| *name != "help") else {
        if let Some(verb) = after.get(1).and_then(|name| verb(name)) {
            return Ok(Parsed::Print(command(program, verb).render_help().to_string()));
        }
        let text = overview(program).render_help().to_string();
        let explicit = asks_help || !after.is_empty();
        return if explicit {
            Ok(Parsed::Print(text))
        } else {
            Err(Error::new(Kind::Usage, format!("no command given\n\n{text}")))
        };
    };
    let global = globals_command(program).try_get_matches_from(global_words).map_err(|error| usage(error, program))?;
    let Some(verb) = verb(name) else {
        let near = VERBS
            .iter()
            .map(|verb| verb.name)
            .filter(|known| distance(known, name) <= 2)
            .min_by_key(|known| distance(known, name));
        let error = Error::new(Kind::Usage, format!("unknown command \"{}\"", name.escape_debug()));
        return Err(match near {
            Some(near) => error.hint(format!("did you mean {near}? `{program} --help` lists the commands")),
            None => error.hint(format!("`{program} --help` lists the commands")),
        });
    };
    let words = normalise(&after[1..], verb.flags, verbatim_from(verb, &after[1..]));
    let command = command(program, verb);
    match command.try_get_matches_from(words) {
        Ok(args) => Ok(Parsed::Run(Box::new(Invocation { global, verb, args }))),
        Err(error) if error.kind() == clap::error::ErrorKind::DisplayHelp => Ok(Parsed::Print(error.render().to_string())),
        Err(error) => Err(usage(error, &format!("{program} {}", verb.name))),
    }
}

/// Where the command stands: the first word that is neither a global flag nor the value of one.
fn command_position(words: &[String]) -> usize {
    let mut at = 0;
    while let Some(word) = words.get(at) {
        if !word.starts_with('-') || word.len() < 2 {
            break;
        }
        let name = word.trim_start_matches('-');
        let takes_value = GLOBAL.iter().any(|flag| flag.name == name && flag.value.is_some());
        at += if takes_value { 2 } else { 1 };
    }
    at
}

/// For commands that pass words on verbatim: the index of the id, after which nothing is a flag of ours.
fn verbatim_from(verb: &Verb, words: &[String]) -> usize {
    if !matches!(verb.positional, Positional::IdAndCommand(_)) {
        return words.len();
    }
    let mut at = 0;
    while let Some(word) = words.get(at) {
        if !word.starts_with('-') || word.len() < 2 {
            return at;
        }
        let name = word.trim_start_matches('-');
        let flag = verb.flags.iter().find(|flag| flag.name == name || (name.len() == 1 && flag.short == name.chars().next()));
        at += if flag.is_some_and(|flag| flag.value.is_some()) { 2 } else { 1 };
    }
    words.len()
}

/// Writes the words before `end` with two dashes where a client sent a long flag with one, as Go's flag syntax allows: a single-dash
/// word that is a known long flag, or that begins with no known short one.
fn normalise(words: &[String], flags: &[Flag], end: usize) -> Vec<String> {
    let mut out = vec![String::new()];
    for (index, word) in words.iter().enumerate() {
        let single = word.strip_prefix('-').filter(|rest| index < end && !rest.starts_with('-') && rest.len() > 1);
        let long = single.is_some_and(|rest| {
            let name = rest.split('=').next().unwrap_or(rest);
            let short = |letter| letter == 'h' || flags.iter().any(|flag| flag.short == Some(letter)) || letter.is_ascii_digit();
            name == "help" || flags.iter().any(|flag| flag.name == name) || !rest.chars().next().is_some_and(short)
        });
        out.push(if long { format!("-{word}") } else { word.clone() });
    }
    out
}

fn arg(flag: &'static Flag) -> Arg {
    let mut arg = Arg::new(flag.name).long(flag.name).help(flag.help).hide(flag.hidden);
    if let Some(short) = flag.short {
        arg = arg.short(short);
    }
    match flag.value {
        Some(name) if flag.repeats => arg.value_name(name).action(ArgAction::Append).allow_hyphen_values(true),
        Some(name) => arg.value_name(name).action(ArgAction::Set).allow_hyphen_values(true),
        // Go's flags take `--switch=true` as well.
        None => arg
            .action(ArgAction::Set)
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .value_parser(["true", "false"])
            .hide_possible_values(true)
            .value_name("BOOL"),
    }
}

fn globals_command(program: &str) -> Command {
    Command::new("berth").bin_name(program).args_override_self(true).disable_help_flag(true).args(GLOBAL.iter().map(arg))
}

/// The clap command of one verb.
pub fn command(program: &str, verb: &'static Verb) -> Command {
    let mut command = Command::new(verb.name)
        .bin_name(format!("{program} {}", verb.name))
        .about(verb.help)
        .args_override_self(true)
        .args(verb.flags.iter().map(arg));
    let id = || Arg::new("id").value_name("CONTAINER-ID").help("the container's name, unique on this host");
    command = match verb.positional {
        Positional::None => command,
        Positional::Id => command.arg(id()),
        Positional::IdAnd(rest) => {
            command.arg(id()).arg(Arg::new("rest").value_name(rest).num_args(0..).allow_negative_numbers(true))
        }
        Positional::IdAndCommand(rest) => command
            .arg(id())
            .arg(Arg::new("rest").value_name(rest).num_args(0..).trailing_var_arg(true).allow_hyphen_values(true)),
    };
    command
}

/// The whole program, for the overview.
pub fn overview(program: &str) -> Command {
    Command::new("berth")
        .bin_name(program)
        .about("A low-level container runtime for Linux: runs bundles of the Open Container Initiative.")
        .subcommand_value_name("COMMAND")
        .args(GLOBAL.iter().map(arg))
        .arg(Arg::new("version").long("version").short('v').action(ArgAction::SetTrue).help("print the version"))
        .subcommands(VERBS.iter().map(|verb| command(program, verb)))
}

/// `--version`, in the three lines that clients parse; the first word is the name the program was called by.
pub fn version(program: &str) -> String {
    let name = if program == "runc" { "runc" } else { "berth" };
    format!(
        "{name} version {}\ncommit: {}\nspec: 1.3.0\n",
        env!("CARGO_PKG_VERSION"),
        option_env!("BERTH_COMMIT").unwrap_or("unknown")
    )
}

/// clap's error in one line, with the phrases that clients look for.
fn usage(error: clap::Error, program: &str) -> Error {
    use clap::error::{ContextKind, ErrorKind};
    let context = |kind| error.get(kind).map(|value| value.to_string()).unwrap_or_default();
    let flag = context(ContextKind::InvalidArg);
    let what = match error.kind() {
        ErrorKind::UnknownArgument if flag.starts_with('-') => {
            format!("flag provided but not defined: -{}", flag.trim_start_matches('-').split(' ').next().unwrap_or_default())
        }
        ErrorKind::InvalidValue if context(ContextKind::InvalidValue).is_empty() => {
            format!("flag needs an argument: -{}", flag.trim_start_matches('-').split(' ').next().unwrap_or_default())
        }
        ErrorKind::UnknownArgument => format!("unexpected argument \"{flag}\""),
        _ => error.render().to_string().lines().next().unwrap_or_default().trim_start_matches("error: ").to_string(),
    };
    Error::new(Kind::Usage, what).hint(format!("see `{program} --help`"))
}

/// How many letters differ, for suggestions (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in other.bytes().enumerate() {
            let next = (diagonal + usize::from(a != b)).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = row[j + 1];
            row[j + 1] = next;
        }
    }
    row[other.len()]
}

/// Whether a switch is on.
pub fn on(matches: &ArgMatches, name: &str) -> bool {
    matches.get_one::<String>(name).is_some_and(|value| value == "true")
}

/// The value of a flag.
pub fn text<'a>(matches: &'a ArgMatches, name: &str) -> Option<&'a str> {
    matches.get_one::<String>(name).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(line: &str) -> Box<Invocation> {
        match parse("berth", line.split_whitespace().map(String::from).collect()) {
            Ok(Parsed::Run(invocation)) => invocation,
            Ok(Parsed::Print(text)) => panic!("printed {text}"),
            Err(error) => panic!("{error}"),
        }
    }
    fn fails(line: &str) -> String {
        match parse("berth", line.split_whitespace().map(String::from).collect()) {
            Err(error) => error.to_string(),
            _ => panic!("{line} was accepted"),
        }
    }

    #[test]
    fn every_spelling_that_clients_send() {
        for line in [
            "--root /r create --bundle /b x",
            "--root=/r create --bundle=/b x",
            "-root /r create -bundle /b x",
            "--root /old --root /r create -b /b x",
            "--root /r create x --bundle /b",
            "--root /r create x -bundle=/b",
        ] {
            let got = run(line);
            assert_eq!(text(&got.global, "root"), Some("/r"), "{line}");
            assert_eq!(text(&got.args, "bundle"), Some("/b"), "{line}");
            assert_eq!(text(&got.args, "id"), Some("x"), "{line}");
        }
        let got = run("--systemd-cgroup --root /r --systemd-cgroup --rootless=true delete x --force");
        assert!(on(&got.global, "systemd-cgroup") && on(&got.args, "force"));
        assert!(!on(&run("delete --force=false x").args, "force"));
        assert!(on(&run("run -d x").args, "detach"));
        assert_eq!(run("kill -a x 9").args.get_many::<String>("rest").unwrap().collect::<Vec<_>>(), ["9"]);
    }

    #[test]
    fn mistakes_are_named() {
        assert!(fails("creat x").contains("unknown command \"creat\"; hint: did you mean create?"));
        assert!(fails("create --bundel /b x").contains("flag provided but not defined: -bundel"));
        assert!(fails("create x --bundle").contains("flag needs an argument: -bundle"));
        assert!(fails("--rot /x create y").contains("not defined: -rot"));
    }

    #[test]
    fn every_verb_builds_and_helps() {
        for verb in VERBS {
            command("berth", verb).debug_assert();
        }
        overview("berth").debug_assert();
        assert!(matches!(parse("berth", vec!["create".into(), "--help".into()]), Ok(Parsed::Print(_))));
        assert!(version("runc").starts_with("runc version "));
    }
}
