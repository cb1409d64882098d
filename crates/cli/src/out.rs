//! What a person or a script gets to see: results on standard output, errors and notes on standard error.

use std::io::{self, Write};

use keys::Error;
use serde::Serialize;

/// How to print.
#[derive(Clone, Copy)]
pub(crate) struct Out {
    /// One JSON document instead of prose.
    pub(crate) json: bool,
}

impl Out {
    /// Prints the result: `text` for a person, `value` as JSON for a script. A closed pipe is not an error.
    pub(crate) fn result<T: Serialize>(self, text: impl AsRef<str>, value: &T) {
        let mut stdout = io::stdout().lock();
        let _ = if self.json {
            writeln!(stdout, "{}", serde_json::to_string_pretty(value).unwrap_or_default())
        } else {
            writeln!(stdout, "{}", text.as_ref().trim_end_matches('\n'))
        };
    }

    /// Says something that is not the result, such as a warning or a progress note.
    pub(crate) fn note(self, text: impl AsRef<str>) {
        let _ = writeln!(io::stderr().lock(), "{}", text.as_ref());
    }

    /// Prints a failure: what happened, what to do, the number.
    pub(crate) fn failure(self, error: &Error) {
        let mut stderr = io::stderr().lock();
        let _ = if self.json {
            let document = serde_json::json!({"error": {
                "number": error.number, "name": error.name, "what": error.what, "do": error.advice,
            }});
            writeln!(stderr, "{document}")
        } else {
            writeln!(stderr, "error: {error}")
        };
    }
}
