//! Every difference between the [strict rules](crate::Rules::Strict) and
//! [Nova's](crate::Rules::Nova).
