// SPDX-License-Identifier: Apache-2.0
//! Extended attributes by descriptor; xattr(7). Used by `rootfs` to copy a directory with file capabilities and labels.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd};

use crate::linux::call::{self, Call, CallError, Result, syscall};
use crate::linux::types::Errno;

/// No list and no value is longer; XATTR_LIST_MAX, XATTR_SIZE_MAX.
const MAX: usize = 65_536;

/// flistxattr(2): the names; none where the filesystem has no such thing.
pub fn list(file: impl AsFd) -> Result<Vec<CString>> {
    let fd = file.as_fd().as_raw_fd();
    let mut buffer = vec![0u8; MAX];
    // SAFETY: the kernel writes at most the buffer's length, and the buffer lives until the call returns.
    let length = match unsafe { syscall!(libc::SYS_flistxattr, fd, buffer.as_mut_ptr(), buffer.len()) } {
        Err(Errno::EOPNOTSUPP) => 0,
        other => other.call(|| format!("flistxattr({})", call::raw_fd(fd)))?,
    };
    let names = buffer[..length as usize].split_inclusive(|byte| *byte == 0);
    Ok(names.filter_map(|name| CStr::from_bytes_with_nul(name).ok()).map(CStr::to_owned).collect())
}

/// fgetxattr(2)
pub fn get(file: impl AsFd, name: &CStr) -> Result<Vec<u8>> {
    let fd = file.as_fd().as_raw_fd();
    let mut buffer = vec![0u8; MAX];
    // SAFETY: `name` ends with NUL; the kernel writes at most the buffer's length, and the buffer lives until the call returns.
    let length = unsafe { syscall!(libc::SYS_fgetxattr, fd, name.as_ptr(), buffer.as_mut_ptr(), buffer.len()) }
        .call(|| format!("fgetxattr({}, {name:?})", call::raw_fd(fd)))?;
    buffer.truncate(length as usize);
    Ok(buffer)
}

/// fsetxattr(2)
pub fn set(file: impl AsFd, name: &CStr, value: &[u8]) -> Result<()> {
    let fd = file.as_fd().as_raw_fd();
    // SAFETY: `name` ends with NUL; the kernel reads `value.len()` bytes of `value`, which lives until the call returns.
    match unsafe { syscall!(libc::SYS_fsetxattr, fd, name.as_ptr(), value.as_ptr(), value.len(), 0) } {
        Ok(_) => Ok(()),
        Err(errno) => Err(CallError::new(format!("fsetxattr({}, {name:?}, {} bytes)", call::raw_fd(fd), value.len()), errno)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::fd::tests::Scratch;

    #[test]
    fn reads_back() {
        let scratch = Scratch::new();
        let file = std::fs::File::create(scratch.path().join("file")).unwrap();
        assert_eq!(list(&file).unwrap(), [] as [CString; 0]);
        set(&file, c"trusted.berth", b"a\0b").unwrap();
        assert_eq!(list(&file).unwrap(), [c"trusted.berth".to_owned()]);
        assert_eq!(get(&file, c"trusted.berth").unwrap(), b"a\0b");
        let error = get(&file, c"trusted.none").unwrap_err();
        assert_eq!(error.errno, Errno::ENODATA);
        assert!(error.call.ends_with(">, \"trusted.none\")"), "{error}");
        assert_eq!(list(std::fs::File::open("/proc/self/stat").unwrap()).unwrap(), [] as [CString; 0]);
    }
}
