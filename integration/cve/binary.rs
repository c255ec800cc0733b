// SPDX-License-Identifier: Apache-2.0
//! The runtime's own binary: no process that a container sees leads to a file of the host that could be written to.

use std::fs;

use serde_json::{Value, json};

use super::attempt;
use crate::harness::bundle::folder;
use crate::harness::call::runtime;
use crate::harness::look::eventually;
use crate::harness::{Bundle, Call, Test};
use crate::test;

/// This file's tests.
pub const TESTS: &[Test] = &[
    test!(cve_2019_5736_first_process),
    test!(cve_2019_5736_program_is_the_runtime),
    test!(cve_2019_5736_process_of_an_exec).seconds(120),
    test!(cve_2019_5736_goes_on_or_runs_again).differs(&OTHER_WAYS),
    test!(cve_2019_5736_by_whatever_name).differs(&OTHER_WAYS),
];

/// Other runtimes see to it in ways of their own.
const OTHER_WAYS: [(&str, &str); 2] = [
    ("runc", "goes on through an overlay or a copy, and never begins under another file than at first"),
    ("crun", "runs itself again from a copy or a mount"),
];

/// All that root in a container may have without a user namespace.
fn all_capabilities() -> Value {
    let caps = json!(["CAP_KILL", "CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_SYS_ADMIN"]);
    json!({ "bounding": caps, "effective": caps, "permitted": caps })
}

/// A copy of the runtime that may be spoilt, and what it held before.
struct Copy {
    path: std::path::PathBuf,
    bytes: Vec<u8>,
}

impl Copy {
    fn make() -> Copy {
        let path = folder().join("runtime");
        fs::copy(runtime(), &path).unwrap();
        let bytes = fs::read(&path).unwrap();
        Copy { path, bytes }
    }

    /// `RUNTIME ARGUMENTS…` by this copy.
    fn call(&self, arguments: &[&str]) -> Call {
        let root = crate::harness::bundle::state_root();
        Call::program(&[&[self.path.to_str().unwrap(), "--root", root.to_str().unwrap()], arguments].concat())
    }

    #[track_caller]
    fn assert_unchanged(&self) {
        assert!(fs::read(&self.path).unwrap() == self.bytes, "the runtime's binary was overwritten from a container");
    }
}

/// Writes to it as soon as nobody runs it any more.
const HOLD_AND_WRITE: &str = r#"
spoil() {
    for n in 1 2 3 4 5 6 7 8 9 10; do
        (echo spoilt >/proc/self/fd/9) 2>/dev/null && { echo written; break; }
        usleep 20000
    done
}
"#;

/// The first process waits for its start: until then its executable is the runtime.
fn cve_2019_5736_first_process() {
    let copy = Copy::make();
    let mut bundle = Bundle::args(&["/bin/sh", "-c", "exec sleep 1000"]);
    bundle.set("/process/capabilities", all_capabilities());
    bundle.save();
    let container = bundle.container();
    bundle.output_of(copy.call(&["create", "--bundle", bundle.path(), &bundle.id])).ok();
    let script = format!(
        "{HOLD_AND_WRITE}\n{{ touch /held; while [ ! -e /started ]; do usleep 1000; done; spoil; }} 9</proc/1/exe; echo end"
    );
    let (out, err) = (folder().join("out"), folder().join("err"));
    let mut spy = copy.call(&["exec", &container.id, "/bin/sh", "-c", &script]).spawn_to(&out, &err);
    eventually("the container holds on to the executable", || bundle.inside("/held").exists());
    container.start();
    fs::write(bundle.inside("/started"), "").unwrap();
    crate::harness::call::wait(&mut spy);
    let said = fs::read_to_string(&out).unwrap();
    assert!(said.ends_with("end\n") && !said.contains("written"), "{said}");
    copy.assert_unchanged();
    // The test itself works: what is held by a name of the host can be written to.
    assert!(fs::File::options().write(true).open(&copy.path).is_ok());
}

/// The image's program is a link to the runtime's own executable: it runs once more, inside, with the container's libraries if it had any.
fn cve_2019_5736_program_is_the_runtime() {
    let copy = Copy::make();
    for args in [json!(["/proc/self/exe", "--version"]), json!(["/link", "--version"]), json!(["/proc/self/exe", "list"])] {
        let mut bundle = Bundle::new();
        std::os::unix::fs::symlink("/proc/self/exe", bundle.inside("/link")).unwrap();
        bundle.set("/process/args", args).set("/process/capabilities", all_capabilities());
        bundle.save();
        bundle.output_of(copy.call(&["run", "--bundle", bundle.path(), &bundle.id]));
        Call::new(&["delete", "--force", &bundle.id]).output();
        copy.assert_unchanged();
    }
    // An interpreter line has the same effect.
    let mut bundle = Bundle::args(&["/script"]);
    fs::write(bundle.inside("/script"), "#!/proc/self/exe\n").unwrap();
    fs::set_permissions(bundle.inside("/script"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    bundle.set("/process/capabilities", all_capabilities());
    attempt(&bundle);
    copy.assert_unchanged();
}

/// The container lies in wait for a process that joins it.
fn cve_2019_5736_process_of_an_exec() {
    let copy = Copy::make();
    let script = format!(
        "{HOLD_AND_WRITE}\necho ready\nwhile [ ! -e /stop ]; do for p in /proc/[0-9]*; do\n\
         case $(readlink $p/exe) in */busybox|'') ;; *) ( {{ echo held; spoil; }} 9<$p/exe );; esac\ndone; done 2>/dev/null; echo end"
    );
    let mut bundle = Bundle::sh(&script);
    bundle.set("/process/capabilities", all_capabilities());
    let container = bundle.run_detached();
    container.wait_stdout("ready");
    for _ in 0..30 {
        copy.call(&["exec", &container.id, "/bin/true"]).output().ok();
    }
    // It does not have to be found by chance: a program that is the runtime stays.
    copy.call(&["exec", &container.id, "/proc/self/exe", "--version"]).output();
    fs::write(bundle.inside("/stop"), "").unwrap();
    let said = container.wait_stdout("end\n");
    assert!(!said.contains("written"), "{said}");
    copy.assert_unchanged();
}

/// The executable of a waiting first process: the text of the link to it, whether it is seen through a read-only mount, and how the program
/// was named that runs (AT_EXECFN).
fn executable(pid: i32) -> (String, bool, String) {
    let link = format!("/proc/{pid}/exe");
    let through = fs::File::open(&link).unwrap();
    let read_only = nix::sys::statvfs::fstatvfs(&through).unwrap().flags().contains(nix::sys::statvfs::FsFlags::ST_RDONLY);
    let vector = fs::read(format!("/proc/{pid}/auxv")).unwrap();
    let words: Vec<u64> = vector.chunks_exact(8).map(|word| u64::from_ne_bytes(word.try_into().unwrap())).collect();
    let at = words.chunks_exact(2).find(|pair| pair[0] == libc::AT_EXECFN).unwrap()[1];
    let mut name = [0; 200];
    let read = std::os::unix::fs::FileExt::read_at(&fs::File::open(format!("/proc/{pid}/mem")).unwrap(), &mut name, at).unwrap();
    let name = name[..read].split(|byte| *byte == 0).next().unwrap();
    (fs::read_link(&link).unwrap().to_string_lossy().into_owned(), read_only, String::from_utf8_lossy(name).into_owned())
}

/// Whether this kernel has PR_SET_MM_MAP (CONFIG_CHECKPOINT_RESTORE): it tells the size of what that takes.
fn kernel_moves_executables() -> bool {
    const PR_SET_MM_MAP_SIZE: libc::c_ulong = 15;
    let mut size: libc::c_uint = 0;
    // SAFETY: the kernel writes one unsigned int, which lives until the call returns.
    unsafe { libc::prctl(libc::PR_SET_MM, PR_SET_MM_MAP_SIZE, &raw mut size, 0, 0) == 0 }
}

/// The program goes on through a read-only view of its file; where the kernel will not have that, it runs again through it. (Where it may
/// not make one, from a copy in memory: `linux::exe` has the test.)
fn cve_2019_5736_goes_on_or_runs_again() {
    let copy = Copy::make();
    let own = copy.path.to_str().unwrap();
    let created = |refused: Option<(i64, u32)>| {
        let bundle = Bundle::args(&["/bin/true"]);
        bundle.save();
        let container = bundle.container();
        let call = copy.call(&["create", "--bundle", bundle.path(), &bundle.id]);
        let call = match refused {
            Some((number, first)) => call.refused(number, first),
            None => call,
        };
        bundle.output_of(call).ok();
        let found = executable(container.pid());
        container.start();
        eventually("it ends", || container.status() == "stopped");
        copy.assert_unchanged();
        found
    };
    let (link, read_only, name) = created(None);
    // A build without hack/build runs twice even so, as on other architectures than x86_64.
    let once = name == own;
    assert!(once || name.starts_with("/dev/fd/"), "{name}");
    // The view is of the directory, or of the file alone.
    assert!(read_only && link == if once { "/runtime" } else { "/" }, "{link}");
    if cfg!(target_arch = "x86_64") && std::env::var_os("RUNTIME").is_some() && kernel_moves_executables() {
        assert!(once, "{name}");
    }
    let (link, read_only, name) = created(Some((libc::SYS_prctl, libc::PR_SET_MM as u32)));
    assert!(link == "/" && read_only && name.starts_with("/dev/fd/"), "{link} {name}");
}

/// However the program is named, the file that it runs from cannot be written to through it: by links beside it and elsewhere, from its own
/// directory, and by a very long path.
fn cve_2019_5736_by_whatever_name() {
    let copy = Copy::make();
    let (own, folder) = (copy.path.to_str().unwrap().to_string(), folder());
    let links = folder.join("links");
    fs::create_dir(&links).unwrap();
    let link = |to: &str, from: std::path::PathBuf| {
        std::os::unix::fs::symlink(to, &from).unwrap();
        from.to_str().unwrap().to_string()
    };
    let beside = link("runtime", folder.join("beside"));
    let absolute = link(&own, folder.join("absolute"));
    let elsewhere = link("../runtime", links.join("elsewhere"));
    let twice = link("links/elsewhere", folder.join("twice"));
    let long = format!("{}{own}", "/.".repeat(700));
    let root = crate::harness::bundle::state_root();
    for name in [&own, &beside, &absolute, &elsewhere, &twice, &long, "./runtime", "links/elsewhere"] {
        let bundle = Bundle::args(&["/bin/true"]);
        bundle.save();
        let container = bundle.container();
        let words = [name, "--root", root.to_str().unwrap(), "create", "--bundle", bundle.path(), &bundle.id];
        bundle.output_of(Call::program(&words).dir(&folder)).ok();
        let (link, read_only, _) = executable(container.pid());
        assert!(read_only && link.matches('/').count() == 1, "{name}: {link}");
        container.start();
        eventually("it ends", || container.status() == "stopped");
        copy.assert_unchanged();
    }
}
