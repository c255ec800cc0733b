// SPDX-License-Identifier: Apache-2.0
//! A manager that stops answering, at each point of the conversation: every wait has an end, and says what was waited for.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread::JoinHandle;

use super::*;
use crate::linux::fd::tests::Scratch;

const SHORT: Duration = Duration::from_millis(300);

/// A socket at which somebody sits who does `talk`, and then waits without a word until the other side has gone.
fn peer(scratch: &Scratch, talk: impl FnOnce(&mut UnixStream) + Send + 'static) -> (String, JoinHandle<()>) {
    let path = scratch.path().join("private");
    let listener = UnixListener::bind(&path).unwrap();
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        talk(&mut stream);
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
    });
    (path.to_str().unwrap().to_owned(), thread)
}

fn authenticate(stream: &mut UnixStream) {
    let mut seen = Vec::new();
    while !seen.ends_with(b"BEGIN\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        seen.push(byte[0]);
    }
    stream.write_all(b"DATA\r\nOK 0123456789abcdef0123456789abcdef\r\n").unwrap();
}

/// It took about as long as was allowed.
#[track_caller]
fn assert_bounded(start: Instant, error: &Error) {
    let took = start.elapsed();
    assert!(took >= SHORT && took < SHORT + Duration::from_secs(20), "it took {took:?}");
    assert_eq!(error.errno, Some(Errno::ETIMEDOUT), "{error}");
    assert!(error.to_string().contains("no answer within 300ms"), "{error}");
}

#[test]
fn one_that_accepts_and_says_nothing() {
    let scratch = Scratch::new();
    let (path, thread) = peer(&scratch, |_| {});
    let start = Instant::now();
    let error = Connection::open_at(&path, false, SHORT).err().unwrap();
    assert_bounded(start, &error);
    assert!(error.to_string().contains(&format!("cannot reach systemd at {path}")), "{error}");
    thread.join().unwrap();
}

#[test]
fn one_that_never_accepts() {
    let scratch = Scratch::new();
    let path = scratch.path().join("private");
    let _listener = UnixListener::bind(&path).unwrap();
    let start = Instant::now();
    let error = Connection::open_at(path.to_str().unwrap(), false, SHORT).err().unwrap();
    assert_bounded(start, &error);
}

#[test]
fn one_that_answers_no_call() {
    let scratch = Scratch::new();
    let (path, thread) = peer(&scratch, authenticate);
    let mut connection = Connection::open_at(&path, false, SHORT).unwrap();
    let start = Instant::now();
    let error = connection.call("StopUnit", "", Writer::default()).err().unwrap().doing("cannot stop the unit x.scope");
    assert_bounded(start, &error);
    assert!(error.to_string().contains("cannot stop the unit x.scope"), "{error}");
    drop(connection);
    thread.join().unwrap();
}

#[test]
fn one_whose_job_never_ends() {
    let scratch = Scratch::new();
    let (path, thread) = peer(&scratch, authenticate);
    let mut connection = Connection::open_at(&path, false, SHORT).unwrap();
    let start = Instant::now();
    assert_bounded(start, &connection.job_result("/org/freedesktop/systemd1/job/1").err().unwrap());
    drop(connection);
    thread.join().unwrap();
}

#[test]
fn one_that_goes_away() {
    let scratch = Scratch::new();
    let (path, thread) = peer(&scratch, |stream| {
        authenticate(stream);
        stream.shutdown(std::net::Shutdown::Both).unwrap();
    });
    let mut connection = Connection::open_at(&path, false, SHORT).unwrap();
    let failure = connection.call("StopUnit", "", Writer::default()).err().unwrap();
    assert!(matches!(&failure, Failure::Broken(error) if error.errno != Some(Errno::ETIMEDOUT)), "{failure:?}");
    drop(connection);
    thread.join().unwrap();
}
