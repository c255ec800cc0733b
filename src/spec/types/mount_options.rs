// SPDX-License-Identifier: Apache-2.0
//! The words of `mounts[].options`. Everybody who asks for one reads them from here.

use super::Mount;

impl Mount {
    /// True when this binds a file or directory: by its options, as the specification has it, or by its type, as callers write it.
    pub fn is_bind(&self) -> bool {
        self.kind == "bind" || self.words().any(|word| matches!(word, "bind" | "rbind"))
    }

    /// The words of its options.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        option_words(&self.options).map(|(_, word)| word)
    }
}

/// The words of these options, each with the index of the option that it stands in.
pub fn option_words(options: &[String]) -> impl Iterator<Item = (usize, &str)> {
    options.iter().enumerate().flat_map(|(index, text)| parts(text).map(move |part| (index, part)))
}

/// The options in one string: engines write one, people several with commas between them, as mount(2) takes them. No comma parts a list
/// of nodes (`mpol=bind:0,2`), nor is one that stands behind a backslash (overlay's paths) or in a SELinux context.
fn parts(text: &str) -> impl Iterator<Item = &str> {
    let mut left = text;
    std::iter::from_fn(move || {
        while !left.is_empty() {
            let end = end_of_part(left);
            let part = &left[..end];
            left = left.get(end + 1..).unwrap_or_default();
            if !part.is_empty() {
                return Some(part);
            }
        }
        None
    })
}

fn end_of_part(text: &str) -> usize {
    let bytes = text.as_bytes();
    let context = text.split_once('=').is_some_and(|(name, _)| name.ends_with("context"));
    let mut quoted = false;
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'"' => quoted = !quoted,
            b',' if quoted || (context && !text.contains('"')) => {}
            b',' if at > 0 && bytes[at - 1] == b'\\' => {}
            b',' if bytes.get(at + 1).is_some_and(u8::is_ascii_digit) => {}
            b',' => return at,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_part_words_but_not_lists_and_contexts() {
        let options = ["ro,,rbind", "", "mpol=bind:0,2", "context=\"a:b,c\",nodev", "lowerdir=/a\\,b"].map(String::from);
        let words: Vec<(usize, &str)> = option_words(&options).collect();
        let context = "context=\"a:b,c\"";
        assert_eq!(words, [(0, "ro"), (0, "rbind"), (2, "mpol=bind:0,2"), (3, context), (3, "nodev"), (4, "lowerdir=/a\\,b")]);
        let mount = |kind: &str, options: &[&str]| Mount {
            kind: kind.into(),
            options: options.iter().map(|option| option.to_string()).collect(),
            ..Mount::default()
        };
        assert!(mount("bind", &[]).is_bind() && mount("", &["ro,rbind"]).is_bind());
        assert!(!mount("tmpfs", &["mpol=bind"]).is_bind());
    }
}
