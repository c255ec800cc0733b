// SPDX-License-Identifier: Apache-2.0
//! Floor 3: the container's process, from both sides.
//!
//! | file          | in which process | what it does                                                              |
//! |---------------|------------------|---------------------------------------------------------------------------|
//! | [`sync`]      | both             | what the two say to each other                                            |
//! | [`gate`]      | both, and start  | where a created container waits                                           |
//! | [`spawn`]     | the runtime's    | makes the process, talks to it, is rid of it when anything fails          |
//! | [`sources`]   | the runtime's    | copies trees of the host again, without mount namespaces in them          |
//! | [`idmap`]     | the runtime's    | maps the ids of its user namespace                                        |
//! | [`exec`]      | the runtime's    | makes one more process in a container that runs                           |
//! | [`limits`]    | the runtime's    | lends it resource limits that it could not raise itself                   |
//! | [`init`]      | the container's  | carries out `plan.child`, from clone3(2) to execve(2)                     |
//! | [`forward`]   | the runtime's    | stays in the foreground: signals, terminal, exit status                   |
//! | [`terminal`]  | the runtime's    | joins the caller's terminal and the container's                           |
//! | [`auxiliary`] | either           | runs hooks and other programs on the side                                 |

pub mod auxiliary;
pub mod exec;
pub mod forward;
pub mod gate;
pub mod idmap;
pub mod init;
pub mod inside;
pub mod limits;
pub mod sources;
pub mod spawn;
pub mod sync;
pub mod terminal;

#[cfg(test)]
mod tests;
