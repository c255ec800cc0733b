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
    test!(page_server).needs(NEEDS).seconds(120).differs(PEERS),
    test!(lazy_pages).needs(NEEDS).seconds(120).differs(PEERS),
];

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

fn memory_first_and_then_the_rest() {
    needs_dirty_tracking();
    let bundle = Bundle::sh(COUNT);
    let container = bundle.run_detached();
    counts_on(&container);
    dump(&container, &image("first"), &["--pre-dump"]).ok();
    assert_eq!(container.status(), "running");
    counts_on(&container);
    dump(&container, &image("last"), &["--parent-path", "../first"]).ok();
    assert_eq!(container.status(), "stopped");
    assert!(pages(&image("last")) < pages(&image("first")), "only what has changed is in the second image");
    container.delete();
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
    container.delete();
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
fn free_port() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string()
}

/// Whether somebody listens on it.
fn listens(port: &str) -> bool {
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
    container.delete();
    drop(container);
    for file in fs::read_dir(image("memory")).unwrap().flatten() {
        let name = file.file_name().into_string().unwrap();
        if name.starts_with("pages-") || name.starts_with("pagemap-") {
            fs::copy(file.path(), Path::new(&image("rest")).join(name)).unwrap();
        }
    }
    counts_on(&restore(&bundle, &image("rest"), &[]));
}

/// The container goes on elsewhere before its memory is there.
fn lazy_pages() {
    if !look::criu(&["check", "--feature", "uffd-noncoop"]) {
        skip("this kernel's userfaultfd is not what lazy pages need");
    }
    let bundle = Bundle::sh(COUNT);
    let source = bundle.container();
    bundle.output_of(bundle.run_call(&["--detach"])).ok();
    counts_on(&source);
    // The shell that starts it gives it the descriptor on which it says that it is ready.
    let (port, ready) = (free_port(), folder().join("ready"));
    let (images, address) = (image("one"), format!("127.0.0.1:{port}"));
    let give = ["sh", "-c", &format!("exec 7>{}; exec \"$@\"", ready.display()), "sh"];
    let flags = ["--lazy-pages", "--page-server", &address, "--status-fd", "7", &source.id];
    let words = [&["checkpoint", "--image-path", &images][..], &flags].concat();
    let mut dumping = with_criu(Call::through(&give, &words)).spawn_to(&folder().join("out"), &folder().join("err"));
    eventually("it says that pages can be asked for", || fs::read(&ready).is_ok_and(|said| said == [0]));
    let daemon = Helper::new(&[
        "lazy-pages",
        "--page-server",
        "--address",
        "127.0.0.1",
        "--port",
        &port,
        "--images-dir",
        &images,
        "--work-dir",
        &images,
    ]);
    eventually("the daemon listens", || Path::new(&images).join("lazy-pages.socket").exists());
    let mut target = Bundle { dir: bundle.dir.clone(), id: format!("{}-there", bundle.id), config: bundle.config.clone() };
    target.set("/linux/cgroupsPath", serde_json::json!(format!("/{}-there", bundle.id)));
    let container = target.container();
    let before = numbers(&source).len();
    let flags = ["--detach", "--lazy-pages", "--work-path", &images];
    let mut restoring = restore_call(&target, &images, &flags).spawn_to(&bundle.stdout_file(), &bundle.stderr_file());
    eventually("it counts on, or CRIU gives up", || {
        numbers(&source).len() >= before + 3 || dumping.try_wait().unwrap().is_some_and(|status| !status.success())
    });
    let said = fs::read_to_string(folder().join("err")).unwrap();
    if said.contains("page-pipe: splice") {
        // It would wait for the pages for ever, whoever has started it.
        restoring.kill().unwrap();
        restoring.wait().unwrap();
        skip(&format!("CRIU's server of lazy pages fails here: {}", said.trim()));
    }
    assert!(call::wait(&mut restoring).success());
    counts_on(&container);
    assert!(call::wait(&mut dumping).success(), "{said}");
    daemon.ends_well();
    counts_on(&container);
    assert_eq!(source.status(), "stopped");
}
