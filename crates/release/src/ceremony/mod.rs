//! Ceremonies: keys and roots are made by several people together, by a script, on a machine without network, and a
//! record remains that proves it.
//!
//! The [`script::Script`] says who must be there and what happens. [`run::run`] goes through it in a [`room::Room`]
//! (the terminal, or a file of answers in a rehearsal), and appends to a [`record`] before and after each act, so that
//! an interrupted ceremony goes on where it stopped and nothing irreversible happens twice. In the end everybody who
//! was present signs. [`verify::verify`] checks the record years later; [`page::page`] prints it. docs/ceremony.md
//! describes scripts and records.

pub mod health;
pub mod page;
pub mod record;
pub mod room;
pub mod run;
pub mod script;
pub mod verify;
