//! Noticing that this process is a fork of the one that started the library.
//!
//! A forked child has our memory but none of our threads, and locks in whatever state they were. It must be turned
//! away before it touches one. `getpid` would be a system call for every publish; a page that the kernel wipes at
//! fork (madvise(2), MADV_WIPEONFORK, Linux 4.14) costs one load.

use once_cell::race::OnceBox;
use std::sync::atomic::{AtomicU32, Ordering};

/// The mark, which a child reads as 0.
const PARENT: u32 = 1;

/// The page, mapped at the first start and kept: 4 KB of a process, shared by all its servers.
static PAGE: OnceBox<Page> = OnceBox::new();

struct Page {
    /// Points into a mapping that is never unmapped. `None`: the kernel is too old to wipe.
    mark: Option<&'static AtomicU32>,
    /// What tells where there is no mark, for a system call.
    process: u32,
}

impl Page {
    fn map() -> Self {
        Page { mark: wiped_page(), process: std::process::id() }
    }

    fn is_of_this_process(&self) -> bool {
        match self.mark {
            Some(mark) => mark.load(Ordering::Relaxed) == PARENT,
            None => self.process == std::process::id(),
        }
    }
}

/// A page with the mark, which a child reads as 0.
fn wiped_page() -> Option<&'static AtomicU32> {
    let size = 4096;
    // SAFETY: a new anonymous mapping, touched by nobody else, never unmapped where it is used; a fresh page is zeroed
    // and aligned for an AtomicU32.
    unsafe {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let page = libc::mmap(std::ptr::null_mut(), size, access, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0);
        if page == libc::MAP_FAILED {
            return None;
        }
        if libc::madvise(page, size, libc::MADV_WIPEONFORK) != 0 {
            libc::munmap(page, size);
            return None;
        }
        let mark: &'static AtomicU32 = &*page.cast();
        mark.store(PARENT, Ordering::Relaxed);
        Some(mark)
    }
}

/// Remembers this process as the one that the library works in.
pub(crate) fn remember() {
    PAGE.get_or_init(|| Box::new(Page::map()));
}

/// Whether this process is a fork of one that called [`remember`].
pub(crate) fn forked() -> bool {
    PAGE.get().is_some_and(|page| !page.is_of_this_process())
}
