//! Long lists, and their JSON. One thread answers all requests, and publishers wait for it, too: so a list is made and
//! written in parts, and the others have their turn between them.

/// About how many rows are written at once.
const AT_ONCE: usize = 32;

/// The rows of a list, with commas between them.
pub(super) async fn joined<I>(rows: I, mut show: impl FnMut(I::Item) -> String) -> String
where
    I: IntoIterator,
{
    let mut text = String::new();
    for (count, row) in rows.into_iter().enumerate() {
        if count > 0 {
            text.push(',');
            if count % AT_ONCE == 0 {
                tokio::task::yield_now().await;
            }
        }
        text.push_str(&show(row));
    }
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
        let list = joined(0..10 * AT_ONCE, |row| {
            written.set(written.get() + 1);
            row.to_string()
        });
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
        assert_eq!(text, (0..10 * AT_ONCE).map(|row| row.to_string()).collect::<Vec<_>>().join(","));
        assert_eq!(runtime.block_on(joined([0; 0], |_| String::new())), "");
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
