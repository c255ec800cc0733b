// SPDX-License-Identifier: Apache-2.0
//! Transient units: systemd makes the container's cgroup, knows of it, and removes it (org.freedesktop.systemd1(5)). Called by [`super`].

use super::dbus::wire::Writer;
use super::dbus::{Connection, Failure};
use crate::error::{Code, Error, Kind, Result};
use crate::plan::resources::gvariant::Value;
use crate::plan::resources::systemd::Property;
use crate::plan::resources::{SavedUnit, path};

/// Starts the unit with a process in it, and waits until it is there.
pub fn start(unit: &SavedUnit, properties: &[Property], pid: i32) -> Result<()> {
    let what = || format!("cannot start the unit {}", unit.name);
    let mut connection = Connection::open(unit.runtime_dir.as_deref())?;
    connection.subscribe().map_err(|failure| failure.doing(what()))?;
    let mut all: Vec<Property> = properties.to_vec();
    all.push(Property { name: "PIDs".to_string(), value: Value::U32s(vec![pid.cast_unsigned()]), optional: false });
    let mut reset = false;
    let job = loop {
        let failure = match start_transient(&mut connection, unit, &all) {
            Ok(job) => break job,
            Err(failure) => failure,
        };
        if failure.is(".UnitExists") && !reset {
            // What a container left behind when it failed is in nobody's way.
            reset = true;
            reset_failed(&mut connection, unit);
        } else if is_about_a_property(&failure) && all.iter().any(|property| property.optional) {
            all.retain(|property| !property.optional);
        } else if failure.is(".UnitExists") {
            return Err(Error::new(Kind::Exists, format!("{}: a unit of this name exists already", what()))
                .cause(Code::Systemd)
                .at(path::FIELD)
                .hint(format!("see `systemctl status {}`", unit.name)));
        } else {
            return Err(failure.doing(what()));
        }
    };
    match connection.job_result(&job) {
        Ok(result) if result == "done" => Ok(()),
        Ok(result) => {
            reset_failed(&mut connection, unit);
            Err(Error::new(Kind::Peer, format!("{}: its job ended with {result:?}", what()))
                .cause(Code::Systemd)
                .at(path::FIELD)
                .hint(format!("see `journalctl -u {}`", unit.name)))
        }
        Err(error) => Err(Failure::Broken(error).doing(what())),
    }
}

fn start_transient(
    connection: &mut Connection,
    unit: &SavedUnit,
    properties: &[Property],
) -> std::result::Result<String, Failure> {
    let mut body = Writer::default();
    body.text(&unit.name);
    body.text("replace");
    write_properties(&mut body, properties);
    // Units to be started along with it: none.
    body.array(8, |_| {});
    let answer = connection.call("StartTransientUnit", "ssa(sv)a(sa(sv))", body)?;
    let job = answer.arguments().text();
    job.ok_or_else(|| Failure::Broken(Error::new(Kind::Peer, "systemd names no job")))
}

fn write_properties(body: &mut Writer, properties: &[Property]) {
    body.array(8, |body| {
        for property in properties {
            body.structure(|body| {
                body.text(&property.name);
                body.variant(&property.value);
            });
        }
    });
}

/// An older systemd does not know a property, or not for this kind of unit, or not this value.
fn is_about_a_property(failure: &Failure) -> bool {
    failure.is(".PropertyReadOnly") || failure.is(".UnknownProperty") || failure.is(".InvalidArgs")
}

fn reset_failed(connection: &mut Connection, unit: &SavedUnit) {
    let mut body = Writer::default();
    body.text(&unit.name);
    // Refused where the unit is not failed, or not there: then there is nothing to reset.
    let _ = connection.call("ResetFailedUnit", "s", body);
}

/// Changes properties of the unit until it ends.
pub fn set(unit: &SavedUnit, properties: &[Property]) -> Result<()> {
    let what = || format!("cannot set properties of the unit {}", unit.name);
    let mut connection = Connection::open(unit.runtime_dir.as_deref())?;
    let mut all: Vec<Property> = properties.to_vec();
    loop {
        let mut body = Writer::default();
        body.text(&unit.name);
        // Until the next boot only, as the unit itself.
        body.bool(true);
        write_properties(&mut body, &all);
        match connection.call("SetUnitProperties", "sba(sv)", body) {
            Ok(_) => return Ok(()),
            Err(failure) if is_about_a_property(&failure) && all.iter().any(|property| property.optional) => {
                all.retain(|property| !property.optional);
            }
            Err(failure) => return Err(failure.doing(what())),
        }
    }
}

/// Moves a process into the unit's cgroup, or into one below it (`/sub`).
pub fn attach(unit: &SavedUnit, below: &str, pid: i32) -> Result<()> {
    let mut connection = Connection::open(unit.runtime_dir.as_deref())?;
    let mut body = Writer::default();
    body.text(&unit.name);
    body.text(below);
    body.array(4, |body| body.u32(pid.cast_unsigned()));
    let done = connection.call("AttachProcessesToUnit", "ssau", body);
    done.map(|_| ()).map_err(|failure| failure.doing(format!("cannot move process {pid} into the unit {}", unit.name)))
}

/// Stops the unit, so that its name is free. One that is not there is stopped. A systemd that is not there either has stopped
/// everything, or will see by itself that the cgroup is empty.
pub fn stop(unit: &SavedUnit) -> Result<()> {
    let what = || format!("cannot stop the unit {}", unit.name);
    let Ok(mut connection) = Connection::open(unit.runtime_dir.as_deref()) else { return Ok(()) };
    connection.subscribe().map_err(|failure| failure.doing(what()))?;
    let mut body = Writer::default();
    body.text(&unit.name);
    body.text("replace");
    match connection.call("StopUnit", "ss", body) {
        Err(failure) if failure.is(".NoSuchUnit") => return Ok(()),
        Err(failure) => return Err(failure.doing(what())),
        Ok(answer) => {
            let job = answer.arguments().text().unwrap_or_default();
            // Whatever the result, the unit is not running any more; a failed one is reset below.
            connection.job_result(&job).map_err(|error| Failure::Broken(error).doing(what()))?;
        }
    }
    reset_failed(&mut connection, unit);
    Ok(())
}

/// The cgroup of the manager of the user whose runtime directory this is; none where it cannot be reached.
pub fn user_manager_cgroup(runtime_dir: &str) -> Option<String> {
    let mut connection = Connection::open(Some(runtime_dir)).ok()?;
    connection.manager_property("ControlGroup").ok().filter(|cgroup| cgroup.starts_with('/'))
}
