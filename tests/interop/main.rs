//! ogbox against other people's programs, in both directions.

mod imaging;
