// SPDX-License-Identifier: Apache-2.0
//! Every word that may stand in `mounts[].options` (config.md, "Linux mount options"; mount(8)), and what it does. Read by
//! [`super`] and, as a list, by `berth features`.
//!
//! A word that is not in [`WORDS`] is a parameter of the filesystem (`size=64k`), which is judged by the kernel.

use super::super::IdMap;
use super::super::step::{AttrChange, PropagationChange};
use crate::linux::types::{Atime, IdRange, MountAttr, Propagation};
use crate::spec::{Problem, option_words};
use crate::texts::{Texts, texts};

/// What one word does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    /// Sets or clears an attribute of the mount.
    Attr(MountAttr, bool),
    /// The same, on all mounts below too.
    AttrRecursive(MountAttr, bool),
    /// Sets or clears one of the access-time bits, which [`AccessTime`] puts together.
    Atime(AtimeBit, bool),
    /// The same, on all mounts below too.
    AtimeRecursive(AtimeBit, bool),
    /// How it propagates; `true` for all mounts below too.
    Propagate(Propagation, bool),
    /// A copy of a tree of the host; `true` with the mounts below it.
    Bind(bool),
    /// Changes the mount that is there.
    Remount,
    /// A flag of the filesystem as a whole, which mount(2) has a bit for.
    Superblock,
    /// Undoes a flag of the filesystem.
    SuperblockOff,
    /// Fills a tmpfs with what it covers.
    CopyUp,
    /// Shifts the ids of the tree; `true` with the mounts below it.
    IdMapped(bool),
    /// A symbolic link as source is copied as a link.
    CopySymlink,
    /// A symbolic link as source is not followed.
    SourceNofollow,
    /// A symbolic link as destination is not followed.
    DestinationNofollow,
    /// The kernel's way anyway, or without effect on this kernel.
    Nothing,
}

/// The bits of mount(2) about access times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AtimeBit {
    No,
    Relative,
    Strict,
}

use AtimeBit::{No, Relative, Strict};
use Word::*;

const RO: MountAttr = MountAttr::RDONLY;
const NOSUID: MountAttr = MountAttr::NOSUID;
const NODEV: MountAttr = MountAttr::NODEV;
const NOEXEC: MountAttr = MountAttr::NOEXEC;
const NODIRATIME: MountAttr = MountAttr::NODIRATIME;
const NOSYMFOLLOW: MountAttr = MountAttr::NOSYMFOLLOW;

/// Makes two tables of one: the words, and what they do.
macro_rules! words {
    ($($name:literal => $does:expr,)*) => {
        /// Every word, in alphabetical order.
        const WORDS: Texts = texts![$($name),*];
        /// What each does, in the same order.
        const DOES: &[Word] = &[$($does),*];
    };
}

words! {
    "async" => SuperblockOff,
    "atime" => Atime(No, false),
    "bind" => Bind(false),
    "copy-symlink" => CopySymlink,
    "defaults" => Nothing,
    "dest-nofollow" => DestinationNofollow,
    "dev" => Attr(NODEV, false),
    "diratime" => Attr(NODIRATIME, false),
    "dirsync" => Superblock,
    "exec" => Attr(NOEXEC, false),
    "idmap" => IdMapped(false),
    // The filesystems that have it turn it on themselves; fsconfig(2) knows no such flag.
    "iversion" => Nothing,
    "lazytime" => Superblock,
    "loud" => Nothing,
    // Without effect since Linux 5.15.
    "mand" => Superblock,
    "noatime" => Atime(No, true),
    "nodev" => Attr(NODEV, true),
    "nodiratime" => Attr(NODIRATIME, true),
    "noexec" => Attr(NOEXEC, true),
    "noiversion" => Nothing,
    "nolazytime" => SuperblockOff,
    "nomand" => SuperblockOff,
    "norelatime" => Atime(Relative, false),
    "nostrictatime" => Atime(Strict, false),
    "nosuid" => Attr(NOSUID, true),
    "nosymfollow" => Attr(NOSYMFOLLOW, true),
    "private" => Propagate(Propagation::Private, false),
    // crun's recursive forms of flags that a mount does not have but its filesystem: without effect there as well.
    "rasync" => Nothing,
    "ratime" => AtimeRecursive(No, false),
    "rbind" => Bind(true),
    "rdev" => AttrRecursive(NODEV, false),
    "rdiratime" => AttrRecursive(NODIRATIME, false),
    "rdirsync" => Nothing,
    "relatime" => Atime(Relative, true),
    "remount" => Remount,
    "rexec" => AttrRecursive(NOEXEC, false),
    "ridmap" => IdMapped(true),
    "rmand" => Nothing,
    "rnoatime" => AtimeRecursive(No, true),
    "rnodev" => AttrRecursive(NODEV, true),
    "rnodiratime" => AttrRecursive(NODIRATIME, true),
    "rnoexec" => AttrRecursive(NOEXEC, true),
    "rnomand" => Nothing,
    "rnorelatime" => AtimeRecursive(Relative, false),
    "rnostrictatime" => AtimeRecursive(Strict, false),
    "rnosuid" => AttrRecursive(NOSUID, true),
    "rnosymfollow" => AttrRecursive(NOSYMFOLLOW, true),
    "ro" => Attr(RO, true),
    "rprivate" => Propagate(Propagation::Private, true),
    "rrelatime" => AtimeRecursive(Relative, true),
    "rro" => AttrRecursive(RO, true),
    "rrw" => AttrRecursive(RO, false),
    "rshared" => Propagate(Propagation::Shared, true),
    "rslave" => Propagate(Propagation::Slave, true),
    "rstrictatime" => AtimeRecursive(Strict, true),
    "rsuid" => AttrRecursive(NOSUID, false),
    "rsymfollow" => AttrRecursive(NOSYMFOLLOW, false),
    "rsync" => Nothing,
    "runbindable" => Propagate(Propagation::Unbindable, true),
    "rw" => Attr(RO, false),
    "shared" => Propagate(Propagation::Shared, false),
    "silent" => Nothing,
    "slave" => Propagate(Propagation::Slave, false),
    "src-nofollow" => SourceNofollow,
    "strictatime" => Atime(Strict, true),
    "suid" => Attr(NOSUID, false),
    "symfollow" => Attr(NOSYMFOLLOW, false),
    "sync" => Superblock,
    "tmpcopyup" => CopyUp,
    "unbindable" => Propagate(Propagation::Unbindable, false),
}

/// Every option word that is known, in alphabetical order: `mountOptions` of `berth features`.
pub fn mount_options_known() -> Vec<&'static str> {
    WORDS.iter().collect()
}

fn word(name: &str) -> Option<(&'static str, Word)> {
    WORDS.find(name).and_then(|(place, known)| Some((known, *DOES.get(place)?)))
}

/// The word that undoes this one, of those about the filesystem as a whole.
fn opposite(name: &str) -> &'static str {
    match name {
        "async" => "sync",
        "sync" => "async",
        "lazytime" => "nolazytime",
        "nolazytime" => "lazytime",
        "mand" => "nomand",
        "nomand" => "mand",
        _ => "",
    }
}

/// Whether it is a flag of one mount in mount(2), or the lack of one. Those for whole trees are mount_setattr(2)'s.
fn is_flag(word: Word) -> bool {
    matches!(word, Attr(..) | Atime(..) | Superblock | SuperblockOff)
}

/// What is asked about access times: mount(2) puts strictatime before noatime before relatime, wherever they stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct AccessTime {
    asked: bool,
    no: bool,
    strict: bool,
}

impl AccessTime {
    fn set(&mut self, bit: AtimeBit, on: bool) {
        self.asked = true;
        match bit {
            No => self.no = on,
            Strict => self.strict = on,
            Relative => {}
        }
    }
    fn apply(self, change: &mut AttrChange) {
        if self.asked {
            change.atime(match self {
                AccessTime { strict: true, .. } => Atime::Strictatime,
                AccessTime { no: true, .. } => Atime::Noatime,
                _ => Atime::Relatime,
            });
        }
    }
}

/// A parameter of the filesystem, and which option it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parameter {
    pub index: usize,
    pub key: String,
    pub value: Option<String>,
}

/// `idmap` or `ridmap`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct IdMapOption {
    pub recursive: bool,
    /// The mappings written behind it (crun's `idmap=uids=0-1000-10;gids=0-1000-10`), where there are any.
    pub inline: Option<InlineMap>,
}

/// Mappings as crun's option writes them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct InlineMap {
    pub uids: Vec<InlineRange>,
    pub gids: Vec<InlineRange>,
}

/// One range of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct InlineRange {
    pub range: IdRange,
    /// `@`: the outer id is one of the container's user namespace.
    pub relative: bool,
}

/// All options of one mount, understood.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    /// `Some(true)` for rbind.
    pub bind: Option<bool>,
    pub remount: bool,
    /// A word is there that mount(2) has a flag for, or that takes one away: a bind then gets exactly the flags that are named.
    pub names_flags: bool,
    pub attr: AttrChange,
    pub attr_recursive: AttrChange,
    pub propagation: Vec<PropagationChange>,
    /// Flags of the filesystem: those set, then those taken back.
    pub superblock: Vec<&'static str>,
    pub superblock_off: Vec<&'static str>,
    pub parameters: Vec<Parameter>,
    pub copy_up: bool,
    pub copy_symlink: bool,
    pub source_nofollow: bool,
    pub destination_nofollow: bool,
    pub id_map: Option<IdMapOption>,
}

impl Options {
    /// Reads the options of the mount at `at` (`mounts[3]`).
    pub(super) fn parse(words: &[String], at: &str) -> Result<Options, Vec<Problem>> {
        let mut options = Options::default();
        let mut problems = Vec::new();
        let (mut access, mut access_recursive) = (AccessTime::default(), AccessTime::default());
        for (index, text) in option_words(words) {
            let (name, value) = match text.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (text, None),
            };
            let known = word(name).filter(|(_, known)| value.is_none() || matches!(known, IdMapped(_)));
            options.names_flags |= known.is_some_and(|(_, known)| is_flag(known));
            match known {
                Some((_, Atime(bit, on))) => access.set(bit, on),
                Some((_, AtimeRecursive(bit, on))) => access_recursive.set(bit, on),
                Some((_, IdMapped(recursive))) => match value.map(inline_map).transpose() {
                    Ok(inline) => options.id_map = Some(IdMapOption { recursive, inline }),
                    Err(rule) => problems.push(Problem::new(format!("{at}.options[{index}]"), rule)),
                },
                Some((name, known)) => options.take(name, known),
                None if name.is_empty() => {
                    problems.push(Problem::new(format!("{at}.options[{index}]"), format!("\"{text}\" is not a mount option")));
                }
                None => {
                    options.parameters.push(Parameter { index, key: name.to_string(), value: value.map(unquoted) });
                }
            }
        }
        access.apply(&mut options.attr);
        access_recursive.apply(&mut options.attr_recursive);
        if problems.is_empty() { Ok(options) } else { Err(problems) }
    }

    fn take(&mut self, name: &'static str, word: Word) {
        match word {
            Attr(attr, true) => self.attr.set(attr),
            Attr(attr, false) => self.attr.clear(attr),
            AttrRecursive(attr, true) => self.attr_recursive.set(attr),
            AttrRecursive(attr, false) => self.attr_recursive.clear(attr),
            Propagate(kind, recursive) => self.propagation.push(PropagationChange { kind, recursive }),
            Bind(recursive) => self.bind = Some(recursive || self.bind == Some(true)),
            Remount => self.remount = true,
            Superblock => {
                self.superblock_off.retain(|off| *off != opposite(name));
                self.superblock.push(name);
            }
            SuperblockOff => {
                self.superblock.retain(|on| *on != opposite(name));
                self.superblock_off.push(name);
            }
            CopyUp => self.copy_up = true,
            CopySymlink => self.copy_symlink = true,
            SourceNofollow => self.source_nofollow = true,
            DestinationNofollow => self.destination_nofollow = true,
            Nothing | Atime(..) | AtimeRecursive(..) | IdMapped(_) => {}
        }
    }
}

/// A value without the quotes that mount(2) wants around a SELinux context, and fsconfig(2) does not.
fn unquoted(value: &str) -> String {
    value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value).to_string()
}

/// `uids=0-1000-10#10-2000-5;gids=@0-0-10`
fn inline_map(text: &str) -> Result<InlineMap, String> {
    let mut map = InlineMap::default();
    for part in text.split(';') {
        let (which, ranges) = part.split_once('=').ok_or_else(|| format!("\"{part}\" is neither uids=… nor gids=…"))?;
        let into = match which {
            "uids" => &mut map.uids,
            "gids" => &mut map.gids,
            _ => return Err(format!("\"{which}\" is neither uids nor gids")),
        };
        for range in ranges.split('#') {
            into.push(
                inline_range(range).ok_or_else(|| {
                    format!("\"{range}\" is not a mapping: three numbers with - between them, such as 0-1000-10")
                })?,
            );
        }
    }
    if map.uids.is_empty() || map.gids.is_empty() {
        return Err("needs mappings of both uids and gids".to_string());
    }
    Ok(map)
}

fn inline_range(text: &str) -> Option<InlineRange> {
    let (relative, numbers) = text.strip_prefix('@').map_or((false, text), |rest| (true, rest));
    let mut numbers = numbers
        .split('-')
        .map(|number| number.bytes().all(|byte| byte.is_ascii_digit()).then(|| number.parse::<u32>().ok()).flatten());
    let (inside, outside, count) = (numbers.next()??, numbers.next()??, numbers.next()??);
    let fits = |first: u32| first.checked_add(count - 1).is_some();
    if numbers.next().is_some() || count == 0 || !fits(inside) || !fits(outside) {
        return None;
    }
    Some(InlineRange { range: IdRange { inside, outside, count }, relative })
}

impl InlineMap {
    /// The mappings with outer ids of the runtime's user namespace. `None` where a relative range does not lie in one range of the
    /// container's mappings.
    pub(super) fn absolute(&self, container: Option<&IdMap>) -> Option<IdMap> {
        let absolute = |ranges: &[InlineRange], outer: Option<&Vec<IdRange>>| -> Option<Vec<IdRange>> {
            ranges.iter().map(|one| if one.relative { shifted(one.range, outer?) } else { Some(one.range) }).collect()
        };
        Some(IdMap {
            uids: absolute(&self.uids, container.map(|map| &map.uids))?,
            gids: absolute(&self.gids, container.map(|map| &map.gids))?,
        })
    }
}

/// The range with its outer ids taken through the container's mappings.
fn shifted(range: IdRange, container: &[IdRange]) -> Option<IdRange> {
    let last = range.outside + (range.count - 1);
    let holder = container.iter().find(|map| range.outside >= map.inside && last - map.inside < map.count)?;
    Some(IdRange { outside: holder.outside.checked_add(range.outside - holder.inside)?, ..range })
}
