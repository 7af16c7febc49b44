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
    /// Points into a mapping that is never unmapped.
    mark: &'static AtomicU32,
}

impl Page {
    /// Where the kernel is too old to wipe, forks go unnoticed: the README names the version.
    fn map() -> Self {
        let size = 4096;
        // SAFETY: a new anonymous mapping, touched by nobody else, never unmapped; a fresh page is zeroed and
        // aligned for an AtomicU32.
        unsafe {
            let page = libc::mmap(
                std::ptr::null_mut(),
                size,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            );
            if page == libc::MAP_FAILED || libc::madvise(page, size, libc::MADV_WIPEONFORK) != 0 {
                return Page { mark: Box::leak(Box::new(AtomicU32::new(PARENT))) };
            }
            let mark: &'static AtomicU32 = &*page.cast();
            mark.store(PARENT, Ordering::Relaxed);
            Page { mark }
        }
    }
}

/// Remembers this process as the one that the library works in.
pub(crate) fn remember() {
    PAGE.get_or_init(|| Box::new(Page::map()));
}

/// Whether this process is a fork of one that called [`remember`].
pub(crate) fn forked() -> bool {
    PAGE.get().is_some_and(|page| page.mark.load(Ordering::Relaxed) != PARENT)
}
