"""Generated long documents, each with one fact between sentences about others."""

import random

FILLER = (
    ("The boundary layer", "The swept wing", "A thin airfoil", "The shock wave", "Supersonic flow"),
    ("was measured", "was computed", "was compared", "is described", "was approximated"),
    ("in the wind tunnel", "for small angles of attack", "by linear theory", "at high speed"),
    ("and agrees with experiment", "without heat transfer", "for a flat plate", "near the nose"),
)
FACTS = tuple(
    (said.strip(), asked.strip())
    for said, asked in (
        line.split("|")
        for line in """
The lift in the Hamburg office is repaired on Tuesday. | when do they fix the elevator
The canteen stopped serving beef. | meat dishes are gone from the cafeteria
Company cars may not be driven abroad. | can I take the firm's vehicle to another country
Salaries are transferred on the 25th. | which day do we get our pay
The rooftop garden needs watering in summer. | who gives water to the plants on the roof
The night guard found a stray dog. | security man discovered an animal
The laser printer jams with recycled paper. | device for printing gets stuck
The day nursery takes children from two years. | minimum age for kids in the kindergarten
Visitors get a yellow badge at reception. | pass for guests at the entrance
The warehouse in Porto was flooded. | storehouse under water in Portugal
Marta resigned and leaves in June. | which colleague quits her job
The auditors praised our bookkeeping. | inspectors liked the accounting
Parking costs four euros per day. | price for leaving my car here
Trainees have a mentor for six months. | experienced person who helps apprentices
The lawyer advised against the settlement. | attorney said not to agree out of court
The chief physician asked for new microscopes. | doctor wants optical instruments
Our rival lowered its subscription fees. | competitor became cheaper
The Christmas party is on a ship. | winter celebration on a boat
Smoking is allowed behind the bicycle shed. | where can I have a cigarette
The fire drill lasted nine minutes. | evacuation exercise duration
Invoices above ten thousand need two signatures. | large bills must be approved by two people
The mayor opened our new bakery. | head of the city inaugurated a bread shop
Wild boars damaged the golf course. | animals destroyed the sports lawn
The violinist cancelled the concert. | musician will not perform
A customer in Oslo wants bilingual manuals. | Norwegian client needs instructions in two languages
The apple harvest failed because of frost. | cold weather ruined the fruit
The old lighthouse becomes a hotel. | tower on the coast turned into accommodation for guests
Gym membership is paid by the employer. | firm covers the fitness studio
The translator speaks Finnish and Greek. | interpreter with knowledge of foreign languages
Passwords must be changed every ninety days. | how often to renew login secrets
The puppet theatre won a prize. | award for the marionettes
Our beekeeper sells honey on Fridays. | sweet product from insects for sale
The tram line is closed for construction. | streetcar not running because of works
Employees may bring their cats on Wednesdays. | pets at work
The museum lends us a Roman vase. | antique pottery on loan
A pensioner donated his stamp collection. | retired man gave away postage
The surgeon prefers ceramic scalpels. | knives for operations
Coffee beans come from a farm in Ethiopia. | origin of our espresso
The lease of the Vienna shop ends in March. | rental contract in Austria expires
Blood donors get a day off. | vacation for giving blood
The swimming pool is heated by geothermal energy. | warm water from the earth for bathing
The choir rehearses in the old chapel. | singers practise in a church
Drones must not fly over the stadium. | unmanned aircraft forbidden at the arena
The dentist recommends softer brushes. | advice for cleaning teeth
The ferry to Gotland sails twice a day. | ship connection to the Swedish island
Our tailor sews uniforms from wool. | who makes the working clothes
The circus elephants were moved to a reserve. | big animals from the show got a sanctuary
Chess players meet in the library. | board game among the books
The pharmacist reported a shortage of insulin. | diabetes medicine is scarce
Snow chains are mandatory from November. | winter equipment for tyres
The wedding was postponed to autumn. | marriage ceremony later in the year
A hedgehog sleeps under the server room. | small spiny animal below the computers
The carpenter built oak bookshelves. | wooden furniture made by a craftsman
Our geologist found traces of copper. | metal ore discovered in rocks
The vineyard switched to organic fertilizer. | wine growers use natural manure
The kayak tour starts at the mill. | paddling trip departure
The astronomer named a comet after his wife. | scientist gave a celestial body her name
Lost umbrellas are kept for a year. | forgotten rain protection at the lost and found
The ski resort lays off its staff. | mountain tourism jobs cut
The perfume contains jasmine and cedar. | ingredients of the fragrance
The orphanage received two hundred toys. | presents for children without parents
Our glassblower retires after forty years. | craftsman ends his career
The bridge is painted green again. | colour of the river crossing
The referee injured his knee. | match official hurt his leg
A meteorite hit the barn. | stone from space struck a farm building
The barber offers discounts to students. | cheaper haircut for young learners
The submarine is shown in the harbour. | underwater vessel on display
The bakery burned down last night. | fire destroyed the bread factory
The novelist lives in a caravan. | writer's home on wheels
Our archivist digitised the parish registers. | church records were scanned
The peacock escaped from the zoo. | colourful bird ran away
Elections to the works council are in May. | vote for employee representatives
The piano tuner comes every quarter. | regular maintenance of the keyboard instrument
The windmill grinds rye for the village. | flour production from wind power
Allergy sufferers should avoid the birch alley. | people with hay fever stay away from trees
The sculptor works with melted candles. | artist uses wax
The goalkeeper signed for another club. | footballer transferred to a new team
Strawberries are picked by volunteers. | helpers harvest the red berries
The projector in room nine is broken. | beamer defect
The judge fined the polluting factory. | court punished a plant for dirty emissions
The opera house sells seats at half price. | cheap tickets for musical drama
Our accountant collects butterflies. | finance colleague's insect hobby
The glacier lost three metres of ice. | melting in the mountains
Newborn twins are registered at window four. | sign up two babies
The detective solved the jewel robbery. | investigator cleared up the theft of gems
The telescope mirror has a scratch. | damage on the optical instrument for stars
Goats keep the grass short at the airport. | animals mow the lawn near runways
The potter teaches evening classes. | ceramics course after work
The tunnel under the strait opens in 2031. | underground passage below the sea
A volcano stopped air traffic for days. | eruption grounded flights
The shepherd lost half of his flock. | sheep farmer missing animals
The pensions of miners are raised. | retired coal workers get more money
The embassy issues visas within a week. | permission to enter the country
The marathon route passes the castle. | long distance race goes by the fortress
Firefighters rescued a parrot from a chimney. | emergency crew saved a bird
Our chef is famous for mushroom soup. | cook's well-known starter with fungi
The toll road accepts only cash. | motorway fee cannot be paid by card
The botanist discovered a blue orchid. | scientist found a rare flower
Homework is forbidden at this school. | pupils have no tasks to do in the evening
The lottery winner bought a lighthouse lamp. | gambler spent his prize
""".strip().splitlines()
    )
)
"""What is said in one document each, and how it is asked for in other words."""


def long_text(fact: str, seed: int, *, before: int = 250, after: int = 50) -> str:
    """A text with a fact after `before` words, and `after` words behind it."""
    chosen = random.Random(seed)

    def filler(words: int) -> str:
        sentences: list[str] = []
        while sum(len(s.split()) for s in sentences) < words:
            sentences.append(" ".join(map(chosen.choice, FILLER)) + ".")
        return " ".join(sentences)

    return f"{filler(before)} {fact} {filler(after)}"
