// SPDX-License-Identifier: Apache-2.0
//! From a parsed command line to floor 4: one short function for each command.

use std::ffi::OsString;
use std::io::Write;
use std::mem::ManuallyDrop;
use std::time::Duration;

use super::args::Invocation;
use super::given::Given;
use super::log::{Level, Log};
use super::request::{self, Caller, Global};
use super::top::Top;
use super::{check, checkpointing, explain, limits, prometheus, seccomp, show, timeline};
use crate::container::store::Store;
use crate::container::{
    bundle, check as survey, checkpoint, create, delete, diff, events, exec, features, host, kill, list, mounts, pause, ps,
    record, restore, start, update, usage,
};
use crate::error::{Error, Kind, Result, Told};
use crate::linux::regex::Regex;
use crate::linux::types::Errno;
use crate::linux::{exe, fd, pid, probe, signal, tty};
use crate::plan::{self, Host, Id, Verb};
use crate::spec::example;
use crate::trace;

/// Exit status of a command that did what it was asked.
const DONE: u8 = 0;

/// What every command gets.
struct Context<'a> {
    program: &'a str,
    verb: &'a str,
    args: &'a Given,
    global: Global,
    caller: Caller,
    log: &'a Log,
}

/// Commands that put a process into a container: those must not run from a file that it could write to.
const ENTERING: [&str; 5] = ["create", "run", "exec", "restore", "seccomp"];

/// Carries out a command and returns its exit status. `argv` is the whole command line.
pub fn run(program: &str, argv: &[OsString], invocation: &Invocation, log: &Log) -> Result<u8> {
    if ENTERING.contains(&invocation.verb.name) {
        exe::ensure_unwritable(argv).told(|| "cannot keep the container from writing to the runtime's own binary".to_string())?;
    }
    if let Some(path) = invocation.global.text("trace").filter(|path| !path.is_empty()) {
        let id = invocation.args.text("id").unwrap_or_default();
        trace::open(&request::absolute(path)?, format!("{} {id}", invocation.verb.name).trim_end().to_string())?;
    }
    let done = carry_out(program, invocation, log);
    trace::write(done.as_ref().err()).unwrap_or_else(|error| log.say(Level::Warning, &error.to_string()));
    done
}

fn carry_out(program: &str, invocation: &Invocation, log: &Log) -> Result<u8> {
    let caller = Caller { euid: probe::euid(), initial_user_namespace: probe::in_initial_user_namespace, pid: pid::getpid };
    let global = request::global(&invocation.global, caller, &environment)?;
    let context = Context { program, verb: invocation.verb.name, args: &invocation.args, global, caller, log };
    match invocation.verb.name {
        "create" => make(&context, Verb::Create),
        "run" => make(&context, Verb::Run),
        "start" => {
            let id = context.id()?;
            start::start(&context.store()?, &id).map(|()| DONE)
        }
        "state" => {
            let id = context.id()?;
            print(&show::state(&list::state(&context.store()?, &id)?)).map(|()| DONE)
        }
        "exec" => exec_in(&context),
        "checkpoint" => {
            let id = context.id()?;
            let asked = checkpointing::checkpoint(context.args, &invocation.global)?;
            let warnings = checkpoint::checkpoint(&context.store()?, &id, &asked, environment("PATH").as_deref())?;
            context.warn(&warnings);
            Ok(DONE)
        }
        "restore" => bring_back(&context, &invocation.global),
        "update" => change_limits(&context),
        "events" => show_events(&context),
        "top" => show_top(&context),
        "mounts" => change_mounts(&context),
        "kill" => send(&context),
        "delete" => remove(&context),
        "list" => show_list(&context),
        "pause" => {
            let id = context.id()?;
            pause::pause(&context.store()?, &id).map(|()| DONE)
        }
        "resume" => {
            let id = context.id()?;
            pause::resume(&context.store()?, &id).map(|()| DONE)
        }
        "ps" => show_processes(&context),
        "features" => print(&show::features(&features::features())).map(|()| DONE),
        "spec" => write_spec(&context),
        "plan" => show_plan(&context),
        "check" => check_host(&context),
        "seccomp" => seccomp_command(&context),
        "trace" => {
            let path = context.args.text("id").ok_or_else(|| Error::new(Kind::Usage, "trace: which FILE?"))?;
            let columns = tty::size(std::io::stdout()).map_or(120, |(columns, _)| usize::from(columns));
            print(&timeline::draw(path, columns)?).map(|()| DONE)
        }
        "explain" => {
            let code = context.args.text("id");
            print(&if context.json()? { explain::json(code)? } else { explain::text(code)? }).map(|()| DONE)
        }
        other => Err(Error::new(Kind::Usage, format!("unknown command \"{other}\""))),
    }
}

impl Context<'_> {
    fn id(&self) -> Result<Id> {
        request::id(self.args, self.program, self.verb)
    }

    /// The state root, for a command that needs what is in it.
    fn store(&self) -> Result<Store> {
        let none = || {
            Error::new(Kind::NotFound, "container does not exist").hint(format!("there is no state root {}", self.global.root))
        };
        Store::open(&self.global.root)?.ok_or_else(none)
    }

    /// `--format`: whether JSON is asked for, instead of text.
    fn json(&self) -> Result<bool> {
        match self.args.text("format").unwrap_or("text") {
            "text" => Ok(false),
            "json" => Ok(true),
            other => Err(Error::new(Kind::Usage, format!("--format: \"{other}\" is neither text nor json"))),
        }
    }

    fn warn(&self, warnings: &[String]) {
        warnings.iter().for_each(|warning| self.log.say(Level::Warning, warning));
    }
}

fn make(context: &Context, verb: Verb) -> Result<u8> {
    let span = trace::span(|| "read the configuration".into());
    let request = request::make(verb, context.id()?, context.args, &context.global, context.caller, &environment)?;
    let bundle = bundle::read_config(&request.bundle, request.config.as_deref())?;
    drop(span);
    let span = trace::span(|| "look at this host".into());
    let host = host::probe_for(&bundle.spec, &request, environment("XDG_RUNTIME_DIR"));
    drop(span);
    let span = trace::span(|| "make the plan".into());
    let plan = bundle::plan(&bundle, &request, &host)?;
    drop(span);
    context.warn(&plan.warnings);
    let debug = |text: &str| context.log.say(Level::Debug, text);
    let debug: Option<create::Warn<'_>> = if context.log.level == Level::Debug { Some(&debug) } else { None };
    // To write a plan out takes longer than to make it.
    if let Some(debug) = debug {
        debug(&format!("plan of {verb:?} {}:\n{plan}", request.id));
    }
    // The command ends with this: to take all that apart would cost some ten pages more, which a process of ours shares.
    let (request, bundle) = (ManuallyDrop::new(request), ManuallyDrop::new(bundle));
    let (host, plan) = (ManuallyDrop::new(host), ManuallyDrop::new(plan));
    create::make(&request, &host, &bundle, &plan, &|warning| context.log.say(Level::Warning, warning), debug)
}

fn bring_back(context: &Context, global: &Given) -> Result<u8> {
    let request = request::make(Verb::Run, context.id()?, context.args, &context.global, context.caller, &environment)?;
    let bundle = bundle::read(&request.bundle)?;
    let wanted = checkpointing::restore(context.args, global, &bundle.spec.annotations)?;
    let host = host::probe_for(&bundle.spec, &request, environment("XDG_RUNTIME_DIR"));
    let plan = bundle::plan(&bundle, &request, &host)?;
    context.warn(&plan.warnings);
    let path = environment("PATH");
    let debug = |text: &str| context.log.say(Level::Debug, text);
    let debug: Option<create::Warn<'_>> = if context.log.level == Level::Debug { Some(&debug) } else { None };
    let warn = |warning: &str| context.log.say(Level::Warning, warning);
    restore::restore(&request, &wanted, &host, (&bundle, &plan), path.as_deref(), (&warn, debug))
}

fn seccomp_command(context: &Context) -> Result<u8> {
    match context.args.text("id") {
        Some("explain") => {
            let kernel = probe::kernel();
            print(&seccomp::explain(context.args, context.json()?, (kernel.major, kernel.minor))?).map(|()| DONE)
        }
        Some("record") => record_calls(context),
        other => Err(Error::new(Kind::Usage, format!("seccomp: \"{}\" is not explain or record", other.unwrap_or_default()))),
    }
}

#[inline(never)] // Rare.
fn record_calls(context: &Context) -> Result<u8> {
    let id = match context.args.all("rest") {
        [] => Id::parse(&format!("seccomp-record-{}", (context.caller.pid)()))?,
        [id] => Id::parse(id)?,
        [_, extra, ..] => {
            return Err(Error::new(
                Kind::Usage,
                format!("unexpected argument \"{}\"; the program stands after --", extra.escape_debug()),
            ));
        }
    };
    let request = request::make(Verb::Run, id, context.args, &context.global, context.caller, &environment)?;
    let mut bundle = bundle::read_config(&request.bundle, request.config.as_deref())?;
    let command = context.args.all("command");
    match &mut bundle.spec.process {
        Some(process) if !command.is_empty() => process.args = command.to_vec(),
        _ => {}
    }
    let host = host::probe_for(&bundle.spec, &request, environment("XDG_RUNTIME_DIR"));
    let (status, calls) = record::record(&request, &host, &mut bundle, &|warning| context.log.say(Level::Warning, warning))?;
    let (profile, said, unnamed) = seccomp::save(context.args, &calls)?;
    context.warn(&unnamed);
    let _ = std::io::stderr().write_all(said.as_bytes());
    print(&profile)?;
    Ok(status)
}

fn exec_in(context: &Context) -> Result<u8> {
    let id = context.id()?;
    let (request, wanted) = request::exec(context.args, context.caller, &environment)?;
    let debug = |text: &str| context.log.say(Level::Debug, text);
    let debug: Option<create::Warn<'_>> = if context.log.level == Level::Debug { Some(&debug) } else { None };
    // The command ends with it, and with the command all that it has open.
    let store = ManuallyDrop::new(context.store()?);
    exec::exec(&store, &id, &request, &wanted, &|warnings| context.warn(warnings), debug)
}

fn change_limits(context: &Context) -> Result<u8> {
    let id = context.id()?;
    let change = limits::read(context.args)?;
    let warnings = update::update(&context.store()?, &id, &change)?;
    context.warn(&warnings);
    Ok(DONE)
}

fn change_mounts(context: &Context) -> Result<u8> {
    let action = context.args.text("id").unwrap_or_default();
    let rest = context.args.all("rest");
    let usage = || {
        Error::new(Kind::Usage, format!("mounts: \"{}\" and {} words after it", action.escape_debug(), rest.len()))
            .hint("`mounts add CONTAINER-ID FILE`, `mounts remove CONTAINER-ID FILE` or `mounts list CONTAINER-ID`")
    };
    match (action, rest) {
        ("add", [id, file]) => {
            let warnings = mounts::add(&context.store()?, &Id::parse(id)?, file)?;
            context.warn(&warnings);
        }
        ("remove", [id, file]) => mounts::remove(&context.store()?, &Id::parse(id)?, file)?,
        ("list", [id]) => print(&show::mounts(&mounts::list(&context.store()?, &Id::parse(id)?)?))?,
        _ => return Err(usage()),
    }
    Ok(DONE)
}

fn show_events(context: &Context) -> Result<u8> {
    match context.args.text("format").unwrap_or("json") {
        "json" => {}
        "prometheus" => return print(&scrape(context)?).map(|()| DONE),
        other => return Err(Error::new(Kind::Usage, format!("--format: \"{other}\" is neither json nor prometheus"))),
    }
    let id = context.id()?;
    let interval = match context.args.text("interval") {
        None => Duration::from_secs(5),
        Some(words) => limits::duration(words)?,
    };
    let store = context.store()?;
    if context.args.on("stats") {
        return print(&show::event(&id, &events::stats(&store, &id)?)).map(|()| DONE);
    }
    let wanted = events::Following { interval, pressure: limits::pressure(context.args)? };
    events::follow(&store, &id, wanted, &mut |event| print_or_end(&show::event(&id, &event))).map(|()| DONE)
}

/// One count for Prometheus: of one container, or of all that there are.
#[inline(never)] // Rare.
fn scrape(context: &Context) -> Result<String> {
    let all = match context.args.text("id") {
        Some(id) => vec![usage::of(&context.store()?, &Id::parse(id)?)?],
        None => Store::open(&context.global.root)?.map_or(Ok(Vec::new()), |store| usage::all(&store))?,
    };
    Ok(prometheus::text(&all))
}

fn show_top(context: &Context) -> Result<u8> {
    let once = context.args.on("once") || !tty::is_terminal(std::io::stdout());
    let interval = match context.args.text("interval") {
        Some(words) => limits::duration(words)?,
        None => Duration::from_millis(if once { 500 } else { 2000 }),
    };
    let (mut top, mut looks) = (Top::default(), 0);
    let store = match Store::open(&context.global.root)? {
        Some(store) => store,
        None if !once => {
            print(&format!("{CLEAR}{}", top.table(&[], interval)))?;
            usage::await_store(&context.global.root)?
        }
        None if context.global.root_given => return Err(no_root(context)),
        None => return print(&top.table(&[], interval)).map(|()| DONE),
    };
    usage::follow(&store, interval, !once, &mut |all, time| {
        let table = top.table(all, time);
        looks += 1;
        match once {
            // Rates need two looks.
            true if looks == 1 => Ok(true),
            true => print(&table).map(|()| false),
            false => print_or_end(&format!("{CLEAR}{table}")),
        }
    })?;
    Ok(DONE)
}

/// From the upper left corner, and nothing left of before; console_codes(4).
const CLEAR: &str = "\x1b[H\x1b[2J";

/// Who names a state root means one that is there.
fn no_root(context: &Context) -> Error {
    Error::new(Kind::Usage, format!("--root: there is no directory {}", context.global.root))
}

fn send(context: &Context) -> Result<u8> {
    let mut rest = context.args.all("rest").iter();
    let word = rest.next().map_or("SIGTERM", String::as_str);
    let number = signal::parse(word).ok_or_else(|| {
        Error::new(Kind::Usage, format!("unknown signal \"{}\"", word.escape_debug()))
            .hint("a name (TERM, SIGTERM) or a number from 0 to 64")
    })?;
    if let Some(extra) = rest.next() {
        let wanted = format!("{}: \"kill\" requires a maximum of 2 argument(s)", context.program);
        return Err(Error::new(Kind::Usage, format!("{wanted}: unexpected argument \"{}\"", extra.escape_debug())));
    }
    let all = context.args.on("all");
    if context.args.on("regex") {
        return each_match(context, |store, id| kill::kill(store, id, number, all));
    }
    let id = context.id()?;
    kill::kill(&context.store()?, &id, number, all).map(|()| DONE)
}

/// `--regex`: every container whose id matches, whatever becomes of those before; the first failure is the command's.
fn each_match(context: &Context, mut each: impl FnMut(&Store, &Id) -> Result<()>) -> Result<u8> {
    let expression = request::words_of_id(context.args, context.program, context.verb)?;
    let regex = Regex::new(expression)
        .map_err(|why| Error::new(Kind::Usage, format!("--regex: \"{}\": {why}", expression.escape_debug())))?;
    let Some(store) = Store::open(&context.global.root)? else { return Ok(DONE) };
    let mut first = Ok(DONE);
    for id in store.ids()?.iter().filter(|id| regex.matches(id.as_str())) {
        let done = each(&store, id).map_err(|error| Error { what: format!("{id}: {}", error.what), ..error });
        first = first.and_then(|status| done.map(|()| status));
    }
    first
}

fn remove(context: &Context) -> Result<u8> {
    let force = context.args.on("force");
    if context.args.on("regex") {
        return each_match(context, |store, id| delete::delete(store, id, force).map(|warnings| context.warn(&warnings)));
    }
    let id = context.id()?;
    let store = match context.store() {
        Err(error) if force && error.kind == Kind::NotFound => return Ok(DONE),
        other => other?,
    };
    let warnings = delete::delete(&store, &id, force)?;
    context.warn(&warnings);
    Ok(DONE)
}

#[inline(never)] // Rare.
fn show_list(context: &Context) -> Result<u8> {
    let format = context.args.text("format").unwrap_or("table");
    if !["table", "json"].contains(&format) {
        return Err(invalid_format(format));
    }
    let store = match Store::open(&context.global.root)? {
        None if context.global.root_given => return Err(no_root(context)),
        store => store,
    };
    if context.args.on("quiet") {
        let ids = store.map_or(Ok(Vec::new()), |store| store.ids())?;
        let ids: Vec<String> = ids.iter().map(|id| id.to_string()).collect();
        return print(&show::list_ids(&ids)).map(|()| DONE);
    }
    let all = store.map_or(Ok(Vec::new()), |store| list::list(&store))?;
    print(&if format == "json" { show::list_json(&all) } else { show::list_table(&all) }).map(|()| DONE)
}

fn show_processes(context: &Context) -> Result<u8> {
    let id = context.id()?;
    let pids = ps::pids(&context.store()?, &id)?;
    match context.args.text("format").unwrap_or("table") {
        "json" => print(&show::pids_json(&pids)).map(|()| DONE),
        "table" => {
            let given = context.args.all("rest");
            print(&show::process_table(&ps_output(given)?, &pids)?).map(|()| DONE)
        }
        other => Err(invalid_format(other)),
    }
}

/// In runc's words.
fn invalid_format(format: &str) -> Error {
    Error::new(Kind::Usage, format!("invalid format option: \"{}\" is neither table nor json", format.escape_debug()))
}

/// What ps(1) of this host prints with these options (`-ef` where there are none).
#[allow(clippy::disallowed_methods, reason = "ps(1) of the host, for whoever asks, with what he has open and set")]
#[inline(never)] // Rare.
fn ps_output(options: &[String]) -> Result<String> {
    let mut command = std::process::Command::new("ps");
    if options.is_empty() {
        command.arg("-ef")
    } else {
        command.args(options)
    };
    let output = command.stdin(std::process::Stdio::null()).output().map_err(|error| {
        Error::new(Kind::Unsupported, format!("cannot run ps: {error}")).hint("install procps, or use --format json")
    })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(Error::new(Kind::Usage, format!("ps failed ({}): {}", output.status, said.trim())));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[allow(
    clippy::disallowed_types,
    reason = "a new file for whoever asks, with his umask; never through a link, because it must not exist"
)]
fn write_spec(context: &Context) -> Result<u8> {
    let bundle = request::absolute(context.args.text("bundle").unwrap_or("."))?;
    let spec = match context.args.on("rootless") {
        true => example::rootless_example(probe::euid(), probe::egid()),
        false => example::example(),
    };
    let path = match context.args.text("file").filter(|name| !name.is_empty()).unwrap_or("config.json") {
        name if name.starts_with('/') => request::absolute(name)?,
        name => request::absolute(&format!("{bundle}/{name}"))?,
    };
    let config = show::config(&spec);
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).open(&path).map_err(|error| {
        let problem = |why: String| Error::new(Kind::Usage, format!("cannot write {path}: {why}"));
        match error.kind() {
            // runc's words.
            std::io::ErrorKind::AlreadyExists => {
                let name = path.rsplit('/').next().unwrap_or_default();
                problem(format!("File {name} exists. Remove it first"))
            }
            std::io::ErrorKind::NotFound => {
                problem("no such file or directory".to_string()).hint("--bundle names an existing directory")
            }
            other => problem(other.to_string()),
        }
    })?;
    let done = file.write_all(config.as_bytes());
    done.map(|()| DONE).map_err(|error| Error::new(Kind::Kernel, format!("cannot write {path}: {error}")))
}

/// Exit status of `plan --diff` when something could not be compared, as diff(1) has it.
pub const TROUBLE: u8 = 2;

#[inline(never)] // Rare.
fn show_plan(context: &Context) -> Result<u8> {
    if let Some(id) = context.args.text("diff") {
        return show_diff(context, id);
    }
    let id = Id::parse("CONTAINER-ID")?;
    let mut request = request::make(Verb::Create, id, context.args, &context.global, context.caller, &environment)?;
    let bundle = bundle::read_config(&request.bundle, request.config.as_deref())?;
    if bundle.spec.process.as_deref().is_some_and(|process| process.terminal) {
        // The question is what would be done, not where the terminal goes.
        request.console_socket.get_or_insert_with(|| "CONSOLE-SOCKET".to_string());
    }
    let host = host::probe_for(&bundle.spec, &request, environment("XDG_RUNTIME_DIR"));
    let plan = bundle::plan(&bundle, &request, &host)?;
    print(&if context.json()? { show::plan_json(&plan) } else { plan.to_string() }).map(|()| DONE)
}

#[inline(never)] // Rare.
fn show_diff(context: &Context, id: &str) -> Result<u8> {
    let json = context.json()?;
    let bundle = context.args.text("bundle").map(request::absolute).transpose()?;
    let runtime_dir = environment("XDG_RUNTIME_DIR");
    let all = diff::diff(&context.store()?, &Id::parse(id)?, bundle.as_deref(), runtime_dir)?;
    print(&if json { show::diff_json(&all) } else { show::diff_text(&all, context.args.on("all")) })?;
    Ok(u8::from(all.iter().any(|one| !one.same)))
}

fn check_host(context: &Context) -> Result<u8> {
    let (json, quiet) = (context.json()?, context.args.on("quiet"));
    let id = Id::parse("CONTAINER-ID")?;
    let mut request = request::make(Verb::Create, id, context.args, &context.global, context.caller, &environment)?;
    let given = context.args.text("bundle").is_some() || request.config.is_some();
    let read = || bundle::read_config(&request.bundle, request.config.as_deref());
    let bundle = if given { Some(read()?) } else { None };
    let spec = match &bundle {
        Some(bundle) => bundle.spec.clone(),
        None if probe::euid() == 0 => example::example(),
        None => example::rootless_example(probe::euid(), probe::egid()),
    };
    if spec.process.as_deref().is_some_and(|process| process.terminal) {
        request.console_socket.get_or_insert_with(|| "CONSOLE-SOCKET".to_string());
    }
    // Shown whether the bundle asks for them or not.
    let (apparmor, selinux) = (probe::apparmor(), probe::selinux());
    let host = Host { apparmor, selinux, ..host::probe_for(&spec, &request, environment("XDG_RUNTIME_DIR")) };
    let plan = plan::create(&spec, &request, &host);
    let survey = survey::survey(&host, &context.global.root, plan.as_ref().ok(), bundle.as_ref());
    let found = plan::check::check(&survey, plan.as_ref().map_err(Vec::as_slice));
    print(&if json { check::json(&survey, &found, quiet) } else { check::text(&found, quiet) })?;
    Ok(check::status(&found))
}

fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Writes to stdout: whether there is still a reader.
fn print_or_end(text: &str) -> Result<bool> {
    let [_, out, _] = fd::standard_streams();
    match fd::write_all(out, text.as_bytes()) {
        Ok(()) => Ok(true),
        Err(error) if error.errno == Errno::EPIPE => Ok(false),
        Err(error) => Err(error).told(|| "cannot write to stdout".into()),
    }
}

/// Writes to stdout; a reader that has gone is no failure of ours.
fn print(text: &str) -> Result<()> {
    print_or_end(text).map(drop)
}
