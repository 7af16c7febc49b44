//! A connection to a log, as both its sides see it: queues of questions and of answers.
//!
//! The hub's side ([`Connection`]) is the same for every engine. An engine makes a connection, and serves it with tasks
//! of its own on the runtime of the engine's thread ([`Serving`]). The [contract](super::super::contract) lists the
//! questions, the answers, and their order.
//!
//! A connection ends once, from either side. The hub's side ends it by being dropped: the engine then closes everything
//! that it has open. The engine's side ends it with [`Serving::fail`], or by being dropped.

use super::super::contract::{Answer, Ask, Tailed, Word};
use std::fmt;
use tokio::sync::{mpsc, oneshot};

/// How many questions may wait for an engine.
const ASKS: usize = 16;
/// How many answers may wait for the hub. It always takes them.
const ANSWERS: usize = 16;
/// How many pieces of the tail may wait for the hub. It takes one only when it can apply it: then the engine waits, and
/// reads no more from its server.
const PIECES: usize = 4;

/// How many words may wait, to be said and to be heard. Further ones that come are dropped.
const WORDS: usize = 128;

/// The reason why there is no connection, or no longer: one sentence for an operator, without secrets. It names the
/// fault and the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure(pub(crate) String);

/// The hub's side.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) asks: mpsc::Sender<Ask>,
    /// All answers except those of the tail. The channel closes when the connection is lost.
    pub(crate) answers: mpsc::Receiver<Answer>,
    pub(crate) tail: mpsc::Receiver<Vec<Tailed>>,
    pub(crate) words: mpsc::Sender<Word>,
    pub(crate) heard: mpsc::Receiver<Heard>,
    pub(super) end: oneshot::Receiver<Failure>,
}

/// The bytes of a word, or the reason why words do not come, or do not go, at present. The log is not concerned then.
pub(crate) type Heard = Result<Vec<u8>, Failure>;

/// The engine's side of the words.
#[derive(Debug)]
pub(crate) struct Words {
    /// Nothing more comes: the hub has ended the connection.
    pub(crate) said: mpsc::Receiver<Word>,
    /// It takes at once, or the word is dropped.
    pub(crate) heard: mpsc::Sender<Heard>,
}

/// The engine's side.
#[derive(Debug)]
pub(crate) struct Serving {
    /// Nothing more comes: the hub has ended the connection.
    pub(crate) asks: mpsc::Receiver<Ask>,
    pub(crate) answers: mpsc::Sender<Answer>,
    pub(crate) tail: mpsc::Sender<Vec<Tailed>>,
    /// `None`: a task of its own has them.
    pub(crate) words: Option<Words>,
    end: oneshot::Sender<Failure>,
}

/// Both sides of a new connection.
pub(crate) fn pair() -> (Connection, Serving) {
    let (asks, asked) = mpsc::channel(ASKS);
    let (answer, answers) = mpsc::channel(ANSWERS);
    let (piece, tail) = mpsc::channel(PIECES);
    let ((words, said), (hear, heard)) = (mpsc::channel(WORDS), mpsc::channel(WORDS));
    let (fail, end) = oneshot::channel();
    let words_served = Some(Words { said, heard: hear });
    (
        Connection { asks, answers, tail, words, heard, end },
        Serving { asks: asked, answers: answer, tail: piece, words: words_served, end: fail },
    )
}

impl Connection {
    /// The reason why it ended. Waits for the end.
    pub(crate) async fn why(self) -> Failure {
        self.end.await.unwrap_or_else(|_| Failure("the connection has ended".to_owned()))
    }
}

impl Serving {
    /// Ends the connection. The answers in its queues are dropped.
    pub(crate) fn fail(self, why: Failure) {
        // The hub's side may be gone already.
        let _ = self.end.send(why);
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
