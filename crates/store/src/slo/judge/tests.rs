//! What makes a verdict, in threes.
