//! Detects that this process is a fork of the one that started the library.
//!
//! A forked child has our memory but none of our threads, and its locks are in whatever state they had at the fork. Its
//! calls must fail before they touch a lock. `getpid` would cost a system call for every publish. A page that the
//! kernel wipes at fork (madvise(2), MADV_WIPEONFORK, Linux 4.14) costs one load.

use once_cell::race::OnceBox;
use std::sync::atomic::{AtomicU32, Ordering};

/// The mark. A child reads 0 in its place.
const PARENT: u32 = 1;

/// The page. It is mapped at the first start and kept: 4 KB for the process, shared by all its servers.
static PAGE: OnceBox<Page> = OnceBox::new();

struct Page {
    /// Points into a mapping that is never unmapped. `None`: the kernel is too old to wipe pages.
    mark: Option<&'static AtomicU32>,
    /// The process id. It is compared where there is no mark, at the cost of a system call.
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

/// A page with the mark.
fn wiped_page() -> Option<&'static AtomicU32> {
    let size = 4096;
    // SAFETY: the mapping is new and anonymous, nobody else touches it, and it is never unmapped once it is used. A
    // fresh page is zeroed and aligned for an AtomicU32.
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

/// Remembers this process as the one that the library runs in.
pub(crate) fn remember() {
    PAGE.get_or_init(|| Box::new(Page::map()));
}

/// Whether this process is a fork of one that called [`remember`].
pub(crate) fn forked() -> bool {
    PAGE.get().is_some_and(|page| !page.is_of_this_process())
}
