"""Ten short English passages written for this course, so that no model can have learnt them by heart."""

__all__ = ["HELD_OUT", "MAP"]

#: on which each head's worth is measured
MAP = (
    "The ferry was late again, and the queue on the pier had begun to talk. A woman with two suitcases said that in "
    "winter it sometimes did not come at all. The boy who sold tea from a trolley agreed; once, he said, the crew "
    "had waited three days on the island because of the ice, living on biscuits and playing cards. Nobody believed "
    "the part about the cards. Then somebody saw a light beyond the breakwater, and everyone picked up their bags "
    "at the same time, although the light did not move and turned out to be the lamp of a man mending his nets in "
    "the dark.",
    "A bridge of stone stands up because every block pushes against its neighbours. The weight of the road presses "
    "down, and the arch turns that weight into a thrust along its curve, from block to block, until it reaches the "
    "ground on either side. If the ground gives way, the arch spreads and cracks at the top. This is why old "
    "builders spent most of their money where nobody could see it, on foundations, and why so many of their bridges "
    "outlived the roads that led to them. A beam, by contrast, bends, and what bends must be strong in tension as "
    "well.",
    "To make the soup, cut two onions and let them soften slowly in butter. Do not let them brown. Add a pound of "
    "carrots in thin slices, a little ginger and a pinch of salt, and stir until everything shines. Pour in enough "
    "hot water to cover the carrots, put the lid on, and leave the pot alone for twenty minutes. When a knife goes "
    "through a slice without effort, take the pot off the heat and blend the soup until it is smooth. If it is too "
    "thick, add water; if it is too thin, boil it a little longer. Serve it with bread and a spoon of cream.",
    "The council voted on Tuesday to close the old swimming pool at the end of the summer. Repairs would cost more "
    "than a new building, according to a report that was published last month, and the heating alone uses as much "
    "gas as two hundred houses. Residents who spoke at the meeting were not convinced. Several said that children "
    "in the northern part of the town would have no place to learn to swim, since the nearest other pool is forty "
    "minutes away by bus. The council promised to look for a site within a year, but it did not name a sum.",
    "My dear friend, you ask how the garden is doing, and I am ashamed to answer. The beans came up in May and were "
    "eaten in June, every one of them, by something that I never saw. The roses are well, because they look after "
    "themselves. I have planted an apple tree where the shed used to be; it is as tall as a broom and has four "
    "leaves, and I am told that I shall have to wait seven years for the first apple. By then you will have "
    "finished your book, I hope, and we can sit under the tree and read it together.",
    "If the chain of your bicycle slips when you push hard, the chain is probably worn. Measure it before you buy "
    "anything. Twelve links of a new chain are exactly twelve inches long; if yours are longer by more than a "
    "sixteenth of an inch, replace the chain. If they are longer by an eighth, the sprockets will be worn as well, "
    "and a new chain will slip on them just as the old one did. Clean the chain first, since dirt can hide the "
    "wear, and keep the wheel on the ground while you measure, so that the chain is under tension all the time.",
)

#: on which what was learnt from the map is tried
HELD_OUT = (
    "Nobody in the village could say who had built the tower. It stood on the hill without a door, twice as high as "
    "the church, and swallows lived in it. In spring the schoolmaster took his pupils up to measure its shadow. "
    "From the length of the shadow and of a stick they worked out the height, and every year the tower was a little "
    "lower. The children thought that it was sinking. The schoolmaster thought that his pupils were careless. Only "
    "when a storm brought down the top did they see that a stone had been missing from it every winter, and where "
    "they went.",
    "When water freezes it takes up more room than before, which is unusual. Most liquids shrink as they turn "
    "solid, because their molecules move closer together. In ice each molecule is held by four others in an open "
    "pattern, with a good deal of empty space between them. That is why ice floats, why pipes burst in winter, and "
    "why a lake freezes from the top and leaves the fish alive below. It is also why rocks break: rain runs into a "
    "crack, freezes at night, pushes the crack apart, and melts again in the morning, and the next rain finds a "
    "larger crack.",
    "Are you sure that this is the right platform? It says so on the ticket. The ticket is from last year. It "
    "cannot be, I bought it this morning, look at the date. That is the price. Then where is the date? There is "
    "none, it is valid on any day, but not on this line. So we have been waiting for an hour at the wrong place? "
    "Not at all, we have been waiting at the right place for the wrong train. And when does the right one leave? It "
    "left while you were buying the tea. Then we may as well drink it. I would, but I gave mine to the man with the "
    "dog.",
    "The shop sells three kinds of lamp. The smallest runs for eight hours on one battery and costs nine pounds. "
    "The second is twice as bright but lasts only half as long, and it costs fifteen pounds. The largest can be "
    "charged from the sun; it costs forty pounds, gives as much light as the second, and needs no battery at all. "
    "For a weekend in a tent we would take the smallest. Those who live far from a road should think about the "
    "largest, which pays for itself in a year if batteries cost a pound each and the lamp is used for four hours "
    "every night.",
)
