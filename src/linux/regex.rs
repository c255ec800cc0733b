// SPDX-License-Identifier: Apache-2.0
//! Extended regular expressions of POSIX, as the C library has them: regex(3). For `--regex`, which is crun's and means these.

use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;

/// A compiled expression.
pub struct Regex {
    compiled: libc::regex_t,
}

impl Regex {
    /// Compiles an expression. The error is the C library's sentence about it.
    pub fn new(expression: &str) -> Result<Regex, String> {
        let text = CString::new(expression).map_err(|_| "it has a NUL byte".to_string())?;
        let mut compiled = MaybeUninit::<libc::regex_t>::uninit();
        // SAFETY: `text` is a C string, and `compiled` has room for what regcomp(3) makes.
        let code = unsafe { libc::regcomp(compiled.as_mut_ptr(), text.as_ptr(), libc::REG_EXTENDED | libc::REG_NOSUB) };
        if code == 0 {
            // SAFETY: regcomp(3) has succeeded and so filled it in.
            return Ok(Regex { compiled: unsafe { compiled.assume_init() } });
        }
        let mut said = [0u8; 256];
        // SAFETY: regerror(3) reads of the second argument nothing but what regcomp(3) has left there after this very code, and writes a C
        // string of at most this length.
        unsafe { libc::regerror(code, compiled.as_ptr(), said.as_mut_ptr().cast(), said.len()) };
        Err(CStr::from_bytes_until_nul(&said)
            .map_or_else(|_| "it is wrong".to_string(), |text| text.to_string_lossy().into_owned()))
    }

    /// Whether it matches anywhere in a text.
    pub fn matches(&self, text: &str) -> bool {
        let Ok(text) = CString::new(text) else { return false };
        // SAFETY: `compiled` is a compiled expression, `text` a C string, and no positions are asked for.
        unsafe { libc::regexec(&self.compiled, text.as_ptr(), 0, std::ptr::null_mut(), 0) == 0 }
    }
}

impl Drop for Regex {
    fn drop(&mut self) {
        // SAFETY: regcomp(3) made it, and nobody uses it any more.
        unsafe { libc::regfree(&mut self.compiled) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_anywhere_unless_it_says_otherwise() {
        let regex = Regex::new("^web-[0-9]+$").unwrap();
        assert!(regex.matches("web-12") && !regex.matches("web-") && !regex.matches("my-web-1"));
        assert!(Regex::new("b|c").unwrap().matches("abc"));
        let said = Regex::new("(").err().unwrap();
        assert!(!said.is_empty(), "{said}");
        assert!(Regex::new("a\0").is_err() && !regex.matches("web-1\0"));
    }
}
