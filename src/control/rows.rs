//! Long lists, and their JSON. One thread answers all requests, and publishers wait for it, too: so a list is made and
//! written in parts, and the others have their turn between them.

/// About how many rows, and how many bytes, are written at once. Names of users and channels may be long.
const AT_ONCE: usize = 32;
const BYTES: usize = 16 << 10;

/// Writes the rows of a list between two texts, with commas between them. Each row is dropped when it is written.
pub(super) async fn joined<I, R>(begin: &str, rows: I, mut show: impl FnMut(I::Item) -> R, end: &str) -> Vec<u8>
where
    I: IntoIterator,
    R: AsRef<[u8]>,
{
    let mut text = begin.as_bytes().to_vec();
    let (mut written, mut at) = (0, text.len());
    for (count, row) in rows.into_iter().enumerate() {
        if count > 0 {
            text.push(b',');
            if written == AT_ONCE || text.len() - at >= BYTES {
                tokio::task::yield_now().await;
                (written, at) = (0, text.len());
            }
        }
        text.extend_from_slice(show(row).as_ref());
        written += 1;
    }
    text.extend_from_slice(end.as_bytes());
    text
}

/// Works as long as there is a further step.
pub(super) async fn in_steps(mut step: impl FnMut() -> bool) {
    while step() {
        tokio::task::yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn others_have_their_turn_while_a_long_list_is_written() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let written = Cell::new(0);
        let count = |row: usize| {
            written.set(written.get() + 1);
            row.to_string()
        };
        let list = joined("", 0..10 * AT_ONCE, count, "");
        let others = async {
            let mut turns = 0;
            while written.get() < 10 * AT_ONCE {
                tokio::task::yield_now().await;
                turns += 1;
            }
            turns
        };
        let (text, turns) = runtime.block_on(async { tokio::join!(list, others) });
        assert!(turns >= 9, "{turns}");
        assert_eq!(text, (0..10 * AT_ONCE).map(|row| row.to_string()).collect::<Vec<_>>().join(",").as_bytes());
        assert_eq!(runtime.block_on(joined("[", [0; 0], |_| "", "]")), b"[]");
        assert_eq!(runtime.block_on(joined("[", [1, 2], |row| row.to_string(), "]\n")), b"[1,2]\n");
    }

    #[test]
    fn others_have_their_turn_more_often_if_the_rows_are_long() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let written = Cell::new(0);
        let long = |_| {
            written.set(written.get() + 1);
            "x".repeat(BYTES / 2)
        };
        let list = joined("[", 0..AT_ONCE, long, "]");
        let others = async {
            let mut turns = 0;
            while written.get() < AT_ONCE {
                tokio::task::yield_now().await;
                turns += 1;
            }
            turns
        };
        let (text, turns) = runtime.block_on(async { tokio::join!(list, others) });
        assert!(turns >= AT_ONCE / 2 - 1, "{turns}");
        assert_eq!(text.len(), 1 + AT_ONCE * (BYTES / 2 + 1));
    }

    #[test]
    fn others_have_their_turn_between_steps() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (steps, turns) = (Cell::new(0), Cell::new(0));
        let work = in_steps(|| {
            steps.set(steps.get() + 1);
            steps.get() < 10
        });
        let others = async {
            while steps.get() < 10 {
                turns.set(turns.get() + 1);
                tokio::task::yield_now().await;
            }
        };
        runtime.block_on(async { tokio::join!(work, others) });
        assert!(steps.get() == 10 && turns.get() >= 8, "{}", turns.get());
    }
}
