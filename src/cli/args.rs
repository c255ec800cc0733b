// SPDX-License-Identifier: Apache-2.0
//! Parsing of the command line, by the one table of flags ([`super::table`]).
//!
//! The grammar is runc's, because engines send it: `--flag value` and `--flag=value`, single-dash long flags (`-bundle`), repeated
//! flags of which the last wins, flags after the id. The usual spellings are read at once ([`super::given`]); clap reads the rest, and of that only the chosen command.

use clap::{Arg, ArgAction, Command};

use super::given::Given;
use super::table::{Flag, Flags, GLOBAL, Positional, Verb, verbs};
use crate::error::{Error, Kind, Result};

/// The command of this name.
pub fn verb(name: &str) -> Option<Verb> {
    verbs().find(|verb| verb.name == name)
}

/// What a command line says: the flags before the command, and the command with its own.
pub struct Invocation {
    /// Flags before the command.
    pub global: Given,
    /// The command.
    pub verb: Verb,
    /// Its flags and words.
    pub args: Given,
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
    if before.iter().any(|word| ["--version", "-version", "-v", "-V"].contains(&word.as_str())) {
        return Ok(Parsed::Print(version(program)));
    }
    let global_words = normalise(before, GLOBAL, before.len());
    let asks_help = before.iter().any(|word| ["-h", "--help", "-help", "-?", "--usage"].contains(&word.as_str()));
    let Some(name) = after.first().filter(|_| !asks_help).map(String::as_str).filter(|name| !["help", "h"].contains(name)) else {
        // After --help, or after nothing, comes the overview; `help` may name a command.
        match after.get(1).map(|name| (name, verb(name))) {
            Some((_, Some(verb))) => return Ok(Parsed::Print(help_of(program, &verb))),
            Some((name, None)) if !asks_help && !name.starts_with('-') => {
                let problem = format!("No help topic for '{}'", name.escape_debug());
                return Err(Error::new(Kind::Usage, problem).hint(format!("`{program} --help` lists the commands")));
            }
            _ => {}
        }
        if !asks_help {
            globals(program, &global_words)?;
        }
        // No command at all as well, and with success: runc does so.
        return Ok(Parsed::Print(help(program, OVERVIEW, overview(program))));
    };
    let global = globals(program, &global_words)?;
    let Some(verb) = verb(name) else {
        let near =
            verbs().map(|verb| verb.name).filter(|known| distance(known, name) <= 2).min_by_key(|known| distance(known, name));
        let error = Error::new(Kind::Usage, format!("unknown command \"{}\"", name.escape_debug()));
        return Err(match near {
            Some(near) => error.hint(format!("did you mean {near}? `{program} --help` lists the commands")),
            None => error.hint(format!("`{program} --help` lists the commands")),
        });
    };
    let (own, program_words) = split_command(&verb, &after[1..]);
    let (own, verbatim) = split_verbatim(&verb, own);
    let words = normalise(own, verb.flags, own.len());
    let taken = |mut args: Given| {
        args.take("command", program_words, true);
        args.take("rest", verbatim, true);
        Ok(Parsed::Run(Box::new(Invocation { global, verb, args })))
    };
    if let Some(args) = Given::read(&words[1..], verb.flags, &verb.positional) {
        return taken(args);
    }
    match command(program, &verb).try_get_matches_from(words) {
        Ok(read) => taken(Given::from_clap(&read, verb.flags, &verb.positional)),
        Err(error) if error.kind() == clap::error::ErrorKind::DisplayHelp => Ok(Parsed::Print(help_of(program, &verb))),
        Err(error) => Err(usage(error, program, Some(&verb))),
    }
}

/// What stands after `--`, for commands that take a program there.
fn split_command<'a>(verb: &Verb, words: &'a [String]) -> (&'a [String], &'a [String]) {
    match words.iter().position(|word| word == "--") {
        Some(at) if matches!(verb.positional, Positional::ActionAndCommand(..)) => (&words[..at], &words[at + 1..]),
        _ => (words, &[]),
    }
}

/// What stands after the id, for commands that pass that on: flags in it are not theirs. Two dashes that come first part it from the id
/// for whoever is used to write them, and go no further.
fn split_verbatim<'a>(verb: &Verb, words: &'a [String]) -> (&'a [String], &'a [String]) {
    if !matches!(verb.positional, Positional::IdAndCommand(_)) {
        return (words, &[]);
    }
    let (own, rest) = words.split_at(words.len().min(verbatim_from(verb, words) + 1));
    (own, rest.strip_prefix(&["--".to_string()][..]).unwrap_or(rest))
}

/// The flags before the command.
fn globals(program: &str, words: &[String]) -> Result<Given> {
    if let Some(given) = Given::read(&words[1..], GLOBAL, &Positional::None) {
        return Ok(given);
    }
    let read = globals_command(program).try_get_matches_from(words);
    Ok(Given::from_clap(&read.map_err(|error| usage(error, program, None))?, GLOBAL, &Positional::None))
}

/// Where the command stands: the first word that is neither a global flag nor the value of one.
fn command_position(words: &[String]) -> usize {
    let mut at = 0;
    while let Some(word) = words.get(at) {
        if word == "--" {
            return at + 1;
        }
        if !word.starts_with('-') || word.len() < 2 {
            break;
        }
        let name = word.trim_start_matches('-');
        let takes_value = GLOBAL.long(name).is_some_and(|flag| flag.value.is_some());
        at += if takes_value { 2 } else { 1 };
    }
    at
}

/// For commands that pass words on verbatim: the index of the id, after which nothing is a flag of ours.
pub(super) fn verbatim_from(verb: &Verb, words: &[String]) -> usize {
    if !matches!(verb.positional, Positional::IdAndCommand(_)) {
        return words.len();
    }
    let mut at = 0;
    while let Some(word) = words.get(at) {
        if !word.starts_with('-') || word.len() < 2 {
            return at;
        }
        at += if takes_next(verb, word) { 2 } else { 1 };
    }
    words.len()
}

/// Whether this word is a flag whose value is the next one: a long one, a short one, or the last of joined short ones.
fn takes_next(verb: &Verb, word: &str) -> bool {
    let name = word.trim_start_matches('-');
    if let Some(flag) = verb.flags.long(name) {
        return flag.value.is_some();
    }
    let valued = |letter: char| verb.flags.iter().any(|flag| flag.short == Some(letter) && flag.value.is_some());
    !word.starts_with("--") && name.find(valued).is_some_and(|at| at + 1 == name.len())
}

/// Writes the words before `end` with two dashes where a client sent a long flag with one, as Go's flag syntax allows: a single-dash
/// word that is a known long flag, or that begins with no known short one.
pub(super) fn normalise(words: &[String], flags: Flags, end: usize) -> Vec<String> {
    let mut out = vec![String::new()];
    let end = words[..end].iter().position(|word| word == "--").unwrap_or(end);
    for (index, word) in words.iter().enumerate() {
        // crun's names for it.
        if ["-?", "--usage"].contains(&word.as_str()) && index < end {
            out.push("--help".to_string());
            continue;
        }
        let single = word.strip_prefix('-').filter(|rest| index < end && !rest.starts_with('-') && rest.len() > 1);
        let long = single.is_some_and(|rest| {
            let name = rest.split('=').next().unwrap_or(rest);
            let short = |letter| letter == 'h' || flags.short(letter).is_some() || letter.is_ascii_digit();
            name == "help" || flags.long(name).is_some() || !rest.chars().next().is_some_and(short)
        });
        out.push(if long { format!("-{word}") } else { word.clone() });
    }
    out
}

/// The value of a switch, in every word that Go's strconv.ParseBool takes.
pub fn boolean(word: &str) -> std::result::Result<String, String> {
    match word {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok("true".to_string()),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok("false".to_string()),
        _ => Err("neither true nor false".to_string()),
    }
}

/// A flag's names and help.
fn named(flag: Flag) -> Arg {
    let arg = Arg::new(flag.name).long(flag.name).help(flag.help).hide(flag.hidden);
    match flag.short {
        Some(short) => arg.short(short),
        None => arg,
    }
}

fn arg(flag: Flag) -> Arg {
    let arg = named(flag);
    match flag.value {
        Some(name) if flag.repeats => arg.value_name(name).action(ArgAction::Append).allow_hyphen_values(true),
        Some(name) => arg.value_name(name).action(ArgAction::Set).allow_hyphen_values(true),
        // Go's flags take `--switch=true` as well.
        None => arg
            .action(ArgAction::Set)
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .value_parser(boolean)
            .value_name("BOOL"),
    }
}

fn globals_command(program: &str) -> Command {
    Command::new("berth").bin_name(program).args_override_self(true).disable_help_flag(true).args(GLOBAL.iter().map(arg))
}

/// The clap command of one verb.
pub fn command(program: &str, verb: &Verb) -> Command {
    let mut command = Command::new(verb.name)
        .bin_name(format!("{program} {}", verb.name))
        .about(verb.help)
        .args_override_self(true)
        .args(verb.flags.iter().map(arg));
    let id = || Arg::new("id").value_name("CONTAINER-ID").help("the container's name, unique on this host");
    command = match verb.positional {
        Positional::None => command,
        Positional::Id => command.arg(id()),
        Positional::Word(name) | Positional::File(name, _) => command.arg(Arg::new("id").value_name(name)),
        Positional::IdAnd(rest) => {
            command.arg(id()).arg(Arg::new("rest").value_name(rest).num_args(0..).allow_negative_numbers(true))
        }
        Positional::ActionAnd(actions, rest) => command.arg(Arg::new("id").value_name(actions).help("what to do")).arg(
            Arg::new("rest")
                .value_name(rest)
                .num_args(0..)
                .help("the container, and for add and remove a file with the array mounts of a config.json"),
        ),
        Positional::ActionAndCommand(actions, rest) => command
            .arg(Arg::new("id").value_name(actions))
            .arg(Arg::new("rest").value_name(rest).num_args(0..).allow_negative_numbers(true)),
        Positional::IdAndCommand(rest) => command
            .arg(id())
            .arg(Arg::new("rest").value_name(rest).num_args(0..).trailing_var_arg(true).allow_hyphen_values(true)),
    };
    command
}

/// The same as people read it: switches without the value that Go's flags may have, and words that must be there said to be so.
pub fn described(program: &str, verb: &Verb) -> Command {
    let name = format!("{program} {}", verb.name);
    let usage = match verb.positional {
        Positional::None => format!("{name} [OPTIONS]"),
        Positional::Id => format!("{name} [OPTIONS] CONTAINER-ID"),
        Positional::Word(word) => format!("{name} [OPTIONS] [{word}]"),
        Positional::File(word, _) => format!("{name} [OPTIONS] {word}"),
        Positional::IdAnd(rest) => format!("{name} [OPTIONS] CONTAINER-ID [{rest}]"),
        Positional::IdAndCommand(rest) => format!("{name} [OPTIONS] CONTAINER-ID [{rest}]..."),
        Positional::ActionAnd(actions, rest) => format!("{name} {actions} {rest}"),
        Positional::ActionAndCommand(actions, rest) => {
            let uses: Vec<String> = actions
                .split('|')
                .zip(rest.split(" | "))
                .map(|(action, rest)| format!("{name} {action} [OPTIONS] {rest}"))
                .collect();
            uses.join("\n       ")
        }
    };
    let id = |name: &'static str| Arg::new("id").value_name(name).required(true);
    let rest = |name: &'static str| Arg::new("rest").value_name(name).num_args(0..);
    let command = Command::new(verb.name)
        .bin_name(&name)
        .about(verb.help)
        .override_usage(usage)
        // Completions would offer what is only taken so that callers of other runtimes need not change.
        .args(verb.flags.iter().filter(|flag| !flag.hidden).map(switch_or_value));
    let container = "the container's name, unique on this host";
    match verb.positional {
        Positional::None => command,
        Positional::Id => command.arg(id("CONTAINER-ID").help(container)),
        Positional::Word(word) => command.arg(Arg::new("id").value_name(word).help("without it, all of them")),
        Positional::File(word, help) => command.arg(id(word).help(help)),
        Positional::IdAnd(name) => {
            command.arg(id("CONTAINER-ID").help(container)).arg(Arg::new("rest").value_name(name).help("its name or number"))
        }
        Positional::IdAndCommand(name) => command
            .arg(id("CONTAINER-ID").help(container))
            .arg(rest(name).help("everything from here on is passed on as it is, flags too")),
        Positional::ActionAnd(actions, name) => command
            .arg(id(actions).help("what to do"))
            .arg(rest(name).help("the container, and for add and remove a file with the array mounts of a config.json")),
        Positional::ActionAndCommand(actions, _) => {
            command.arg(id(actions).help("what to do")).arg(rest("WORD").help("what to do it with, as shown above"))
        }
    }
}

fn switch_or_value(flag: Flag) -> Arg {
    match flag.value {
        Some(_) => arg(flag),
        None => named(flag).action(ArgAction::SetTrue),
    }
}

/// The whole program, for the overview.
pub fn overview(program: &str) -> Command {
    Command::new("berth")
        .bin_name(program)
        .about("A low-level container runtime for Linux: runs bundles of the Open Container Initiative.")
        .override_usage(format!("{program} [OPTIONS] COMMAND ..."))
        .args(GLOBAL.iter().filter(|flag| !flag.hidden).map(switch_or_value))
        .arg(Arg::new("version").long("version").short('v').action(ArgAction::SetTrue).help("print the version"))
        .subcommands(verbs().map(|verb| described(program, &verb)))
}

/// What the program is, in one line.
const OVERVIEW: &str = "Open Container Initiative runtime";

fn help_of(program: &str, verb: &Verb) -> String {
    help(&format!("{program} {}", verb.name), verb.help, described(program, verb).about(None))
}

/// clap's text, in the layout of runc's (NAME, USAGE, OPTIONS), which scripts take apart.
fn help(name: &str, what: &str, mut command: Command) -> String {
    let mut text = format!("NAME:\n   {name} - {what}\n\n");
    for line in command.render_help().to_string().lines() {
        match line.strip_prefix("Usage: ") {
            Some(usage) => text.push_str(&format!("USAGE:\n   {usage}")),
            None if ["Commands:", "Arguments:", "Options:"].contains(&line) => text.push_str(&line.to_uppercase()),
            None => text.push_str(line),
        }
        text.push('\n');
    }
    text
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

/// How many words a command takes, as runc says it.
pub fn wanted(verb: &Verb, least: bool) -> &'static str {
    match verb.positional {
        Positional::None => "exactly 0",
        Positional::Id => "exactly 1",
        _ if least => "a minimum of 1",
        Positional::IdAnd(_) => "a maximum of 2",
        _ => "a maximum of 1",
    }
}

/// clap's error in one line, with the phrases that clients look for.
fn usage(error: clap::Error, program: &str, verb: Option<&Verb>) -> Error {
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
        ErrorKind::UnknownArgument => match verb {
            Some(verb) => {
                let wanted = wanted(verb, false);
                format!("{program}: \"{}\" requires {wanted} argument(s): unexpected argument \"{flag}\"", verb.name)
            }
            None => format!("unexpected argument \"{flag}\""),
        },
        _ => error.render().to_string().lines().next().unwrap_or_default().trim_start_matches("error: ").to_string(),
    };
    let program = verb.map_or_else(|| program.to_string(), |verb| format!("{program} {}", verb.name));
    let near = match error.get(ContextKind::SuggestedArg) {
        Some(near) => format!("did you mean {near}? see `{program} --help`"),
        None => format!("see `{program} --help`"),
    };
    Error::new(Kind::Usage, what).hint(near)
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
            assert_eq!(got.global.text("root"), Some("/r"), "{line}");
            assert_eq!(got.args.text("bundle"), Some("/b"), "{line}");
            assert_eq!(got.args.text("id"), Some("x"), "{line}");
        }
        let got = run("--systemd-cgroup --root /r --systemd-cgroup --rootless=true delete x --force");
        assert!(got.global.on("systemd-cgroup") && got.args.on("force"));
        for (word, wanted) in [("1", true), ("T", true), ("True", true), ("0", false), ("f", false), ("FALSE", false)] {
            assert_eq!(run(&format!("delete --force={word} x")).args.on("force"), wanted, "{word}");
            assert_eq!(run(&format!("delete -f={word} x")).args.on("force"), wanted, "{word}");
        }
        assert!(run("delete --force=false --force x").args.on("force"), "the last one wins");
        assert_eq!(run("--root /r state -- x").args.text("id"), Some("x"));
        assert_eq!(run("--root /r -- state -- -x").args.text("id"), Some("-x"));
        assert!(run("run -d x").args.on("detach"));
        assert_eq!(run("kill -a x 9").args.all("rest"), ["9"]);
    }

    #[test]
    fn mistakes_are_named() {
        assert!(fails("creat x").contains("unknown command \"creat\"; hint: did you mean create?"));
        assert!(fails("create --bundel /b x").contains("flag provided but not defined: -bundel; hint: did you mean --bundle?"));
        assert!(fails("create x --bundle").contains("flag needs an argument: -bundle"));
        assert!(fails("--rot /x create y").contains("not defined: -rot; hint: did you mean --root?"));
        assert!(fails("--rot").contains("not defined: -rot"), "rather than that there is no command");
        assert!(fails("delete --force=yes x").contains("yes"));
        assert!(fails("run -nothing x").contains("not defined: -nothing"), "no cluster of short flags");
        assert!(fails("state x y").contains("unexpected argument \"y\""));
    }

    #[test]
    fn every_verb_builds_and_helps() {
        for verb in verbs() {
            command("berth", &verb).debug_assert();
            described("berth", &verb).debug_assert();
        }
        overview("berth").debug_assert();
        for line in [["create", "--help"], ["create", "-h"], ["create", "--usage"], ["create", "-?"], ["--root=/x", "--usage"]] {
            assert!(matches!(parse("berth", line.map(String::from).to_vec()), Ok(Parsed::Print(_))), "{line:?}");
        }
        assert!(version("runc").starts_with("runc version "));
    }
}
