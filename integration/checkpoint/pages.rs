// SPDX-License-Identifier: Apache-2.0
//! Memory that goes another way than into the image at once: ahead of the rest, to a page server, or after the restore.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::*;
use crate::harness::{Test, call, look, skip};
use crate::test;

/// This file's tests.
pub const TESTS: &[Test] = &[
    test!(memory_first_and_then_the_rest).needs(NEEDS).seconds(120),
    test!(what_is_anew_goes_from_the_parent).needs(NEEDS).seconds(120).differs(&[("crun", "has no --auto-dedup")]),
    test!(page_server).needs(NEEDS).seconds(120).differs(&[("crun", "has no --page-server")]),
    test!(lazy_pages)
        .needs(NEEDS)
        .seconds(120)
        .differs(&[("runc", "has no --criu, by which CRIU is helped here"), ("crun", "has no --lazy-pages")]),
    test!(no_page_server)
        .needs(NEEDS)
        .seconds(120)
        .differs(&[("runc", "quotes all of CRIU's log"), ("crun", "has no --page-server")]),
    test!(nobody_has_the_pages).needs(NEEDS).seconds(120).differs(NOT_AWAITED),
    test!(pages_that_never_come).needs(NEEDS).seconds(120).differs(NOT_AWAITED),
];

const NOT_AWAITED: &[(&str, &str)] = &[("runc", "waits with CRIU for ever"), ("crun", "has no --lazy-pages")];

fn needs_dirty_tracking() {
    if !look::criu(&["check", "--feature", "mem_dirty_track"]) {
        skip("this kernel cannot tell which memory has changed");
    }
}

/// Sizes of the memory in an image.
fn pages(image: &str) -> u64 {
    let files = fs::read_dir(image).unwrap().flatten();
    files.filter(|file| file.file_name().to_string_lossy().starts_with("pages-")).map(|file| file.metadata().unwrap().len()).sum()
}

/// How many pages a dump has left to the image that it builds on (stats.proto of CRIU: `pages_skipped_parent` of its `dump`).
fn left_to_parent(image: &str) -> u64 {
    let file = fs::read(Path::new(image).join("stats-dump")).unwrap();
    // Two magic numbers and a length stand before the message.
    let Some(flags::Value::Bytes(dump)) = flags::fields(&file[12..])[&1].first().cloned() else { panic!("{file:?}") };
    match flags::fields(&dump)[&6].first() {
        Some(flags::Value::Number(pages)) => *pages,
        other => panic!("{other:?}"),
    }
}

fn memory_first_and_then_the_rest() {
    needs_dirty_tracking();
    let bundle = Bundle::sh(COUNT);
    let container = bundle.run_detached();
    counts_on(&container);
    for (name, flags) in [("first", &["--pre-dump"][..]), ("second", &["--pre-dump", "--parent-path", "../first"])] {
        let output = dump(&container, &image(name), flags);
        assert_eq!(
            (output.stderr.as_str(), container.status().as_str()),
            ("", "running"),
            "CRIU's own last words are kept from the caller"
        );
        output.ok();
        counts_on(&container);
    }
    dump(&container, &image("last"), &["--parent-path", "../second"]).ok();
    container.call(&["state"]).output().fails();
    assert_eq!(left_to_parent(&image("first")), 0);
    for name in ["second", "last"] {
        assert!(left_to_parent(&image(name)) > 0, "what has not changed is not in the image {name}");
    }
    drop(container);
    counts_on(&restore(&bundle, &image("last"), &[]));
}

/// Bytes that the files of an image's memory take on the disk.
fn stored(image: &str) -> u64 {
    let files = fs::read_dir(image).unwrap().flatten();
    files
        .filter(|file| file.file_name().to_string_lossy().starts_with("pages-"))
        .map(|file| file.metadata().unwrap().blocks())
        .sum()
}

fn what_is_anew_goes_from_the_parent() {
    needs_dirty_tracking();
    let bundle = Bundle::sh(COUNT);
    let container = bundle.run_detached();
    counts_on(&container);
    dump(&container, &image("first"), &["--pre-dump"]).ok();
    let before = stored(&image("first"));
    counts_on(&container);
    dump(&container, &image("last"), &["--parent-path", "../first", "--auto-dedup"]).ok();
    assert!(stored(&image("first")) < before, "the first image has lost what the second has");
    drop(container);
    counts_on(&restore(&bundle, &image("last"), &["--auto-dedup"]));
}

/// A program of CRIU's own, which helps with memory.
struct Helper(Child);

impl Helper {
    fn new(words: &[&str]) -> Helper {
        let program = std::env::var("BERTH_TEST_CRIU").map_or("criu".to_owned(), |dir| format!("{dir}/criu"));
        Helper(Command::new(program).args(words).stdin(Stdio::null()).spawn().unwrap())
    }

    #[track_caller]
    fn ends_well(mut self) {
        assert!(call::wait(&mut self.0).success(), "CRIU's own program failed");
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port of this host that nobody has.
pub fn free_port() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string()
}

/// Whether somebody listens on it.
pub fn listens(port: &str) -> bool {
    let wanted = format!(":{:04X} ", port.parse::<u16>().unwrap());
    let all = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default()).concat();
    all.lines().any(|line| line.contains(&wanted) && line.contains(" 0A "))
}

/// The memory is sent to another program, and brought to the rest of the image before the restore.
fn page_server() {
    let bundle = Bundle::sh(COUNT);
    let container = bundle.run_detached();
    counts_on(&container);
    let port = free_port();
    fs::create_dir(image("memory")).unwrap();
    let server =
        Helper::new(&["page-server", "--images-dir", &image("memory"), "--address", "127.0.0.1", "--port", &port, "-o", "log"]);
    eventually("the page server listens", || listens(&port));
    dump(&container, &image("rest"), &["--page-server", &format!("127.0.0.1:{port}")]).ok();
    server.ends_well();
    assert!(pages(&image("memory")) > 0 && pages(&image("rest")) == 0, "all memory is at the page server");
    drop(container);
    for file in fs::read_dir(image("memory")).unwrap().flatten() {
        let name = file.file_name().into_string().unwrap();
        if name.starts_with("pages-") || name.starts_with("pagemap-") {
            fs::copy(file.path(), Path::new(&image("rest")).join(name)).unwrap();
        }
    }
    counts_on(&restore(&bundle, &image("rest"), &[]));
}

/// The container runs on, and the error says what CRIU says nowhere as one.
fn no_page_server() {
    let bundle = Bundle::sh(COUNT);
    let container = bundle.run_detached();
    counts_on(&container);
    let address = format!("127.0.0.1:{}", free_port());
    let error = dump(&container, &image("one"), &["--page-server", &address]).fails();
    assert!(error.contains(&format!("Can't connect to server {address}")) && error.contains("nobody listens there"), "{error}");
    counts_on(&container);
}

/// A container whose first process keeps 150 KB in memory, and says what they add up to each time that it counts.
fn with_much_memory() -> Bundle {
    let script = "DATA=$(i=0; while [ $i -lt 10000 ]; do i=$((i+1)); echo line-$i-; done); \
                  i=0; while :; do i=$((i+1)); echo $i; echo sum $(echo \"$DATA\" | md5sum); sleep 0.05; done";
    Bundle::sh(script)
}

/// What it said of its memory: each time the same.
#[track_caller]
fn sum(container: &Container) -> String {
    let said = container.stdout();
    let mut sums: Vec<&str> = said.lines().filter(|line| line.starts_with("sum ")).collect();
    sums.dedup();
    assert_eq!(sums.len(), 1, "{said}");
    sums[0].to_owned()
}

/// CRIU asks for a pipe of 4 MiB to serve lazy pages from, and does not notice that it has got none: what it then says is no reason that anybody
/// would guess. Where root may not make one, it is given the largest that he may, by a library between the two.
fn criu_with_pipes() -> Option<String> {
    let most = fs::read_to_string("/proc/sys/fs/pipe-max-size").unwrap().trim().parse::<u32>().unwrap();
    if Need::SYS_RESOURCE.missing().is_none() || most >= 4 << 20 {
        return None;
    }
    let (source, library) = (folder().join("pipes.c"), folder().join("pipes.so"));
    let text = format!(
        "#include <fcntl.h>\n#include <stdarg.h>\n#include <unistd.h>\n#include <sys/syscall.h>\n\
         int fcntl64(int fd, int command, ...) {{\n\
         va_list list; va_start(list, command); long value = va_arg(list, long); va_end(list);\n\
         if (command == 1031 && value > {most}) value = {most};\n\
         return syscall(SYS_fcntl, fd, command, value); }}\n"
    );
    fs::write(&source, text).unwrap();
    let words = ["-shared", "-fPIC", "-o", library.to_str().unwrap(), source.to_str().unwrap()];
    if !Command::new("cc").args(words).status().is_ok_and(|status| status.success()) {
        skip(
            "root has no CAP_SYS_RESOURCE here and fs.pipe-max-size is too low for CRIU's lazy pages, nor is there a C compiler to help",
        );
    }
    let criu = std::env::var("BERTH_TEST_CRIU").map_or("criu".to_owned(), |dir| format!("{dir}/criu"));
    Some(fake_criu(&format!("export LD_PRELOAD={}; exec {criu} \"$@\"", library.display())))
}

/// Serves the pages of an image to a restore.
fn daemon(images: &str, port: &str) -> Helper {
    let server = ["--page-server", "--address", "127.0.0.1", "--port", port];
    let daemon =
        Helper::new(&[&["lazy-pages", "--images-dir", images, "--work-dir", images, "-o", "lazy.log"], &server[..]].concat());
    eventually("the daemon listens", || Path::new(images).join("lazy-pages.socket").exists());
    daemon
}

/// The container goes on elsewhere before its memory is there.
fn lazy_pages() {
    needs_lazy_pages();
    let bundle = with_much_memory();
    let source = bundle.container();
    bundle.output_of(bundle.run_call(&["--detach"])).ok();
    counts_on(&source);
    let before = sum(&source);
    // The shell that starts it gives it the descriptor on which it says that it is ready.
    let (port, ready) = (free_port(), folder().join("ready"));
    let (images, address) = (image("one"), format!("127.0.0.1:{port}"));
    let give = ["sh", "-c", &format!("exec 7>{}; exec \"$@\"", ready.display()), "sh"];
    let criu = criu_with_pipes();
    let named: Vec<&str> = criu.iter().flat_map(|criu| ["--criu", criu]).collect();
    let flags = ["--lazy-pages", "--page-server", &address, "--status-fd", "7", &source.id];
    let words = [&named[..], &["checkpoint", "--image-path", &images], &flags].concat();
    let mut dumping = with_criu(Call::through(&give, &words)).spawn_to(&folder().join("out"), &folder().join("err"));
    eventually("it says that pages can be asked for", || fs::read(&ready).is_ok_and(|said| said == [0]));
    assert!(!holds(&images, "line-9999-"), "what it remembers is not in the image");
    let daemon = daemon(&images, &port);
    let mut target = Bundle { dir: bundle.dir.clone(), id: format!("{}-there", bundle.id), config: bundle.config.clone() };
    target.set("/linux/cgroupsPath", serde_json::json!(format!("/{}-there", bundle.id)));
    let container = target.container();
    let flags = ["--detach", "--lazy-pages", "--work-path", &images];
    let mut restoring = restore_call(&target, &images, &flags).spawn_to(&bundle.stdout_file(), &bundle.stderr_file());
    let logs =
        || ["dump.log", "lazy.log", "restore.log"].map(|name| fs::read_to_string(format!("{images}/{name}")).unwrap_or_default());
    assert!(call::wait(&mut restoring).success(), "{}", logs().join("\n"));
    counts_on(&container);
    assert!(call::wait(&mut dumping).success(), "{}", fs::read_to_string(folder().join("err")).unwrap());
    daemon.ends_well();
    counts_on(&container);
    assert_eq!(sum(&container), before);
    source.call(&["state"]).output().fails();
}

fn needs_lazy_pages() {
    if !look::criu(&["check", "--feature", "uffd-noncoop"]) {
        skip("this kernel's userfaultfd is not what lazy pages need");
    }
}

/// Whether the memory in an image has these bytes.
fn holds(image: &str, wanted: &str) -> bool {
    let files = fs::read_dir(image).unwrap().flatten();
    let mut memory = files.filter(|file| file.file_name().to_string_lossy().starts_with("pages-"));
    memory.any(|file| fs::read(file.path()).unwrap().windows(wanted.len()).any(|bytes| bytes == wanted.as_bytes()))
}

/// A container that has been dumped and deleted, its memory with it.
fn dumped() -> Bundle {
    let bundle = Bundle::sh(COUNT);
    let container = bundle.run_detached();
    counts_on(&container);
    dump(&container, &image("one"), &[]).ok();
    bundle
}

/// Nor in the file that is the container's stderr: CRIU wants it as long as it was.
#[track_caller]
fn nothing_is_left(bundle: &Bundle) {
    fs::File::options().write(true).open(bundle.stderr_file()).unwrap().set_len(0).unwrap();
    bundle.container().call(&["state"]).output().fails();
    assert_eq!(look::cgroups_named(&bundle.id), Vec::<std::path::PathBuf>::new());
}

/// No daemon; and one that ends because it cannot reach its page server, after which CRIU would wait for ever.
fn nobody_has_the_pages() {
    needs_lazy_pages();
    let bundle = dumped();
    let images = image("one");
    let flags = ["--detach", "--lazy-pages", "--work-path", &images];
    let error = bundle_output(&bundle, &flags).fails();
    assert!(error.contains("`criu lazy-pages` is to be started before the restore"), "{error}");
    nothing_is_left(&bundle);
    let daemon = daemon(&images, &free_port());
    let error = bundle_output(&bundle, &flags).fails();
    assert!(error.contains("criu failed: type RESTORE") && error.contains("`criu lazy-pages`"), "{error}");
    nothing_is_left(&bundle);
    drop(daemon);
}

/// A page server that never answers: it is said what is waited for, and a signal ends it.
fn pages_that_never_come() {
    needs_lazy_pages();
    let bundle = dumped();
    let images = image("one");
    for (signal, flags) in [(nix::sys::signal::SIGTERM, &["--detach"][..]), (nix::sys::signal::SIGINT, &[])] {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let daemon = daemon(&images, &server.local_addr().unwrap().port().to_string());
        let flags = [flags, &["--lazy-pages", "--work-path", &images]].concat();
        let said = bundle.stderr_file();
        let mut restoring = restore_call(&bundle, &images, &flags).spawn_to(&bundle.stdout_file(), &said);
        let (_peer, _) = server.accept().unwrap();
        if !flags.contains(&"--detach") {
            eventually("it is said what is waited for", || {
                fs::read_to_string(&said)
                    .is_ok_and(|said| said.contains(&format!("CRIU waits for memory from `criu lazy-pages`, at {images}/")))
            });
        }
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(i32::try_from(restoring.id()).unwrap()), signal).unwrap();
        assert!(!call::wait(&mut restoring).success());
        let said = fs::read_to_string(&said).unwrap();
        assert!(said.contains("interrupted by a signal"), "{said}");
        nothing_is_left(&bundle);
        drop(daemon);
        fs::remove_file(Path::new(&images).join("lazy-pages.socket")).unwrap();
    }
}
