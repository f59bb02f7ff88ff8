"""`check records`: is what is compared comparable, is every value possible, did a number drift?"""
